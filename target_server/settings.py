"""The target server's settings."""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode, SettingsConfigDict

from paceline.engine.core.waiting import WaitingLimits
from paceline.engine.settings import EngineSettings
from paceline.engine.vllm.settings import VllmSettings
from paceline.settings import (
    HEALTH_PORTS,
    METRICS_PORTS,
    TARGET_PORT,
    HealthPort,
    MetricsPort,
    Port,
)

OF_VLLM = {"tensor_parallel_size", "pipeline_parallel_size", "adapter", "vllm_arguments"}
"""Settings that only that engine has."""
MOST_RANKS = 1024
"""More than any one model is cut for."""


def _json_object(value: object) -> object:
    """Of a flag or a variable, which has it as text."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PydanticCustomError("json_object", "must be a JSON object, as {example}", _EXAMPLE)
    return found


_EXAMPLE = {"example": '{"enforce_eager": true}'}
JsonObject = Annotated[dict[str, Any], NoDecode, BeforeValidator(_json_object)]


class TargetSettings(EngineSettings):
    """Owns the target model: verifies proposals and decides every token."""

    examples: ClassVar[tuple[str, ...]] = (
        "python -m target_server --model qwen2.5-coder-1.5b",
        "python -m target_server --model ./big --model-name big --kv-tokens 131072",
        "python -m target_server --engine vllm --model ./big --tensor-parallel-size 2",
        "PACELINE_TARGET_MODEL=./big python -m target_server --log-format console",
    )
    model_config = SettingsConfigDict(
        env_prefix="PACELINE_TARGET_", cli_prog_name="python -m target_server"
    )

    port: Port = TARGET_PORT
    health_port: HealthPort = TARGET_PORT + HEALTH_PORTS
    metrics_port: MetricsPort = TARGET_PORT + METRICS_PORTS
    engine: Literal["torch", "vllm"] = Field(
        "torch",
        description="What computes: torch, or vLLM, installed beside it.",
    )
    tensor_parallel_size: int = Field(
        1, ge=1, le=MOST_RANKS, description="With --engine vllm: ranks that share each layer."
    )
    pipeline_parallel_size: int = Field(
        1,
        ge=1,
        le=MOST_RANKS,
        description="With --engine vllm: ranks that have a part of the layers.",
    )
    adapter: str = Field(
        "",
        description="With --engine vllm: folder of a LoRA adapter that the model is served with. "
        "Unless given: none.",
    )
    vllm_arguments: JsonObject = Field(
        default_factory=dict,
        description="With --engine vllm: arguments that vLLM's engine is started with besides, as "
        "JSON: its own names with underscores. Unless given: none.",
    )
    allow_inexact: bool = Field(
        False,
        description="Serve a model that is not batch-invariant on this machine: outputs may then "
        "depend on drafts, load, the prefix cache and failover.",
    )

    products: Literal["measured", "library", "tiled"] = Field(
        "measured",
        description="What multiplies with weights on a GPU: its library, tiled kernels of our own "
        "where the library's rows depend on their batch, or always one of them.",
    )
    max_waiting: int = Field(
        256,
        ge=0,
        le=65536,
        description="Streams that may wait for KV; more are refused, with a time to try again.",
    )
    max_wait_seconds: float = Field(
        300.0,
        gt=0,
        le=86400,
        description="How long a stream may wait for KV before it is refused. Its own deadline "
        "may end it sooner.",
    )

    @property
    def waiting(self) -> WaitingLimits:
        """As max_waiting and max_wait_seconds say."""
        return WaitingLimits(self.max_waiting, self.max_wait_seconds)

    @property
    def vllm(self) -> VllmSettings:
        """What vLLM is told."""
        return VllmSettings(
            self.tensor_parallel_size,
            self.pipeline_parallel_size,
            self.adapter,
            self.vllm_arguments,
        )

    @model_validator(mode="after")
    def _vllm_is_meant(self) -> Self:
        """What only vLLM has is not left out in silence."""
        if self.engine == "vllm":
            return self
        for name in OF_VLLM & self.model_fields_set:
            flag = f"--{name.replace('_', '-')}"
            raise PydanticCustomError("engine", f"{flag} is for --engine vllm; the engine is torch")
        return self

    @property
    def products_of_device(self) -> str:
        """As products says."""
        return self.products

    @property
    def serves_inexact(self) -> bool:
        """As allow_inexact says."""
        return self.allow_inexact
