"""The target server's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from paceline.engine.settings import EngineSettings


class TargetSettings(EngineSettings):
    """Owns the target model: verifies proposals and decides every token."""

    model_config = SettingsConfigDict(
        env_prefix="PACELINE_TARGET_", cli_prog_name="python -m target_server"
    )

    port: int = Field(7071, ge=0, le=65535, description="Port for calls; 0 takes any free one.")
    health_port: int = Field(
        7171, ge=0, le=65535, description="Port for grpc.health.v1, always plaintext."
    )
    metrics_port: int = Field(7271, ge=0, le=65535, description="Port for Prometheus.")
    allow_inexact: bool = Field(
        False,
        description="Serve a model that is not batch-invariant on this machine: outputs may then "
        "depend on speculation, load and failover.",
    )

    @property
    def serves_inexact(self) -> bool:
        """As allow_inexact says."""
        return self.allow_inexact
