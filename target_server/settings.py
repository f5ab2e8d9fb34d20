"""The target server's settings."""

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from paceline.engine.core.waiting import WaitingLimits
from paceline.engine.settings import EngineSettings
from paceline.settings import (
    HEALTH_PORTS,
    METRICS_PORTS,
    TARGET_PORT,
    HealthPort,
    MetricsPort,
    Port,
)


class TargetSettings(EngineSettings):
    """Owns the target model: verifies proposals and decides every token."""

    examples: ClassVar[tuple[str, ...]] = (
        "python -m target_server --model qwen2.5-coder-1.5b",
        "python -m target_server --model ./big --model-name big --kv-tokens 131072",
        "PACELINE_TARGET_MODEL=./big python -m target_server --log-format console",
    )
    model_config = SettingsConfigDict(
        env_prefix="PACELINE_TARGET_", cli_prog_name="python -m target_server"
    )

    port: Port = TARGET_PORT
    health_port: HealthPort = TARGET_PORT + HEALTH_PORTS
    metrics_port: MetricsPort = TARGET_PORT + METRICS_PORTS
    allow_inexact: bool = Field(
        False,
        description="Serve a model that is not batch-invariant on this machine: outputs may then "
        "depend on speculation, load and failover.",
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
    def serves_inexact(self) -> bool:
        """As allow_inexact says."""
        return self.allow_inexact
