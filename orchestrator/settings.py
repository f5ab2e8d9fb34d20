"""The orchestrator's settings."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from paceline.settings import ServerSettings


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Addresses = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""Addresses, in flags and environment separated by commas."""


class OrchestratorSettings(ServerSettings):
    """Answers clients: runs rounds between draft and target servers and streams the tokens."""

    model_config = SettingsConfigDict(
        env_prefix="PACELINE_ORCHESTRATOR_", cli_prog_name="python -m orchestrator"
    )

    port: int = Field(7070, ge=0, le=65535, description="Port for calls; 0 takes any free one.")
    health_port: int = Field(
        7170, ge=0, le=65535, description="Port for grpc.health.v1, always plaintext."
    )
    metrics_port: int = Field(7270, ge=0, le=65535, description="Port for Prometheus.")
    target: Addresses = Field(
        ["localhost:7071"],
        min_length=1,
        description="Target servers, separated by commas: host:port or unix:/path; a name is "
        "all it resolves to.",
    )
    draft: Addresses = Field(
        ["localhost:7072"], description="Draft servers, likewise. They need not be there."
    )
    draft_length: int = Field(
        4,
        ge=0,
        le=32,
        description="Draft tokens verified in a round when a client forces speculation; 0 is the "
        "target alone for all.",
    )
    max_draft_length: int = Field(
        16, ge=1, le=32, description="Most draft tokens in a round, when the pacer decides."
    )
    window: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Tokens the draft may be ahead of what is confirmed. Unless given: none where "
        "draft and target share a machine, to take turns; elsewhere about two rounds.",
    )
    draft_wait_seconds: float = Field(
        1.0,
        ge=0,
        description="How long a round waits for its draft tokens. A draft that misses this is "
        "not waited for again before it delivers.",
    )
    default_max_tokens: int = Field(
        1024, ge=1, description="max_tokens of a request that names none."
    )
