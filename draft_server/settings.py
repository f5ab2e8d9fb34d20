"""The draft server's settings."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from draft_server.drafters.registry import DEFAULT, DRAFTERS, SUMMARY, DrafterName
from paceline.engine.settings import EngineSettings
from paceline.settings import (
    DRAFT_PORT,
    HEALTH_PORTS,
    METRICS_PORTS,
    HealthPort,
    MetricsPort,
    Port,
)


class DraftSettings(EngineSettings):
    """Proposes draft tokens ahead of the target."""

    examples: ClassVar[tuple[str, ...]] = (
        "python -m draft_server --model qwen2.5-coder-0.5b",
        "python -m draft_server --drafter ngram --port 7073",
        "PACELINE_DRAFT_MODEL=./small python -m draft_server --weights int8",
    )
    needs_batch_invariance: ClassVar[bool] = False
    model_config = SettingsConfigDict(
        env_prefix="PACELINE_DRAFT_", cli_prog_name="python -m draft_server"
    )

    model: str = Field(
        "",
        description="The model: a pulled name, a local folder, a .gguf file or a hub id. Unless "
        "given: none, which suits a drafter that only looks up.",
    )
    weights: Literal["bf16", "int8", "int4"] = Field(
        "int4",
        description="Weights of the linear layers, with bfloat16: as they are, or in 8 or 4 bits.",
    )
    engine: Literal["auto", "torch", "compiled", "openvino"] = Field(
        "auto",
        description="What computes a draft in 4 bits on a CPU: torch, a step compiled here, "
        "OpenVINO, or auto, the quickest one that is as often right: all are measured once.",
    )
    drafter: DrafterName = Field(
        DEFAULT,
        description=f"What drafts. {SUMMARY}.",
    )
    port: Port = DRAFT_PORT
    health_port: HealthPort = DRAFT_PORT + HEALTH_PORTS
    metrics_port: MetricsPort = DRAFT_PORT + METRICS_PORTS

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if DRAFTERS[self.drafter].needs_model and not self.model:
            raise ValueError(f"--model is missing; the {self.drafter} drafter needs one")
        return self
