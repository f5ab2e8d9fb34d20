"""The draft server's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from paceline.engine.settings import EngineSettings


class DraftSettings(EngineSettings):
    """Owns a draft model: guesses ahead of the target."""

    model_config = SettingsConfigDict(
        env_prefix="PACELINE_DRAFT_", cli_prog_name="python -m draft_server"
    )

    port: int = Field(7072, ge=0, le=65535, description="Port for calls; 0 takes any free one.")
    health_port: int = Field(
        7172, ge=0, le=65535, description="Port for grpc.health.v1, always plaintext."
    )
    metrics_port: int = Field(7272, ge=0, le=65535, description="Port for Prometheus.")
