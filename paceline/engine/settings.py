"""Settings of a server that owns a model."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from paceline.engine.core.waiting import WaitingLimits
from paceline.engine.interfaces import PAGE_TOKENS
from paceline.machine import usable_cores
from paceline.settings import ServerSettings

MOST_THREADS = 4096
"""As many as the largest machines have, and more than torch starts without falling over."""
CORES = usable_cores()
MOST_KV = 2**40
"""Tokens of KV; more than any machine has room for."""

RESERVE_TOKENS = 4096
LEAST_KV = PAGE_TOKENS * (RESERVE_TOKENS // PAGE_TOKENS + 1)
"""Tokens of KV that leave a page beyond the default reserve."""
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise PydanticCustomError(
            "device", "it must be cpu, cuda, mps or xpu, or one by number, as cuda:1"
        )
    return value


Device = Annotated[
    str,
    AfterValidator(_device),
    WithJsonSchema({"type": "string", "pattern": f"^({_DEVICE.pattern})$"}),
]
"""A device as torch names it."""


class EngineSettings(ServerSettings):
    """Settings that draft and target servers share."""

    needs_batch_invariance: ClassVar[bool] = True

    model: str = Field(
        description="The model: a pulled name, a local folder, a .gguf file or a hub id."
    )
    model_name: str = Field(
        "", description="Name that clients ask for. Unless given: the last part of the model."
    )
    dtype: str = Field(
        "bfloat16",
        pattern="^(bfloat16|float32|float64)$",
        description="Numbers of weights and KV: bfloat16, float32 or float64.",
    )
    weights: Literal["bf16", "int8", "int4"] = Field(
        "bf16",
        description="Weights of the linear layers, with bfloat16: as they are, or in 8 or 4 bits.",
    )
    device: Device = Field(
        "cpu",
        description="Device of the model, as torch names it. cuda needs a driver, a torch built "
        "for it with its Triton, and memory there for weights and KV.",
    )
    threads: int = Field(
        default_factory=lambda: CORES,
        ge=1,
        le=MOST_THREADS,
        description="Threads of the forward pass. Unless given: the cores that it may use.",
    )
    max_batched_tokens: int = Field(
        256, ge=64, le=2048, description="Most tokens in one step, all sessions together."
    )
    kv_reserve_tokens: int = Field(
        4096,
        ge=0,
        le=MOST_KV,
        description="Of kv_tokens, kept for streams that come from a lost server.",
    )
    kv_tokens: int = Field(
        65536,
        ge=PAGE_TOKENS,
        le=MOST_KV,
        validate_default=True,
        description="Tokens of KV for all sessions together.",
    )

    @field_validator("kv_tokens")
    @classmethod
    def _leaves_a_page(cls, value: int, info: ValidationInfo) -> int:
        """Leave KV beyond the reserve: without any, all new sessions would be refused."""
        reserve = info.data.get("kv_reserve_tokens", 0)
        least = PAGE_TOKENS * (reserve // PAGE_TOKENS + 1)
        if value < least:
            what = f"a page of {PAGE_TOKENS} beyond --kv-reserve-tokens, {reserve}"
            raise PydanticCustomError("kv_tokens", f"it must be at least {least}, {what}")
        return value

    @property
    def waiting(self) -> WaitingLimits | None:
        """How many sessions may wait for KV, and how long; None: whoever has no room is refused."""
        return None

    @property
    def products_of_device(self) -> str:
        """How products with weights are made batch-invariant: see exactness.products."""
        return "measured"

    @property
    def serves_inexact(self) -> bool:
        """Whether it serves a model that is not batch-invariant here."""
        return not self.needs_batch_invariance
