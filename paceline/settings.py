"""Settings: one class per process, from flags, environment and file, in that order."""

import sys
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

Settings = TypeVar("Settings", bound=BaseSettings)


class ServerSettings(BaseSettings):
    """What all servers can be told."""

    model_config = SettingsConfigDict(
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_show_env_vars=True,
        extra="forbid",
    )

    host: str = Field(
        "0.0.0.0",  # noqa: S104  servers in containers are reached from outside
        description="Address to listen on, for calls, health and metrics.",
    )
    port: int = Field(ge=0, le=65535, description="Port for calls; 0 takes any free one.")
    health_port: int = Field(
        ge=0, le=65535, description="Port for grpc.health.v1, always plaintext."
    )
    metrics_port: int = Field(ge=0, le=65535, description="Port for Prometheus.")
    socket: Path | None = Field(
        None, description="Unix socket to listen on for calls, instead of host and port."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="How long running streams may go on after SIGTERM."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )
    log_format: Literal["json", "console"] = Field("json", description="Form of the log lines.")

    @property
    def address(self) -> str:
        """Where calls are taken: host:port, or unix:/path."""
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"


def parse(kind: type[Settings], arguments: list[str] | None = None) -> Settings:
    """Settings of one process; on bad ones prints each field with its limit and exits with 2."""
    try:
        return CliApp.run(kind, cli_args=sys.argv[1:] if arguments is None else arguments)
    except (ValidationError, SettingsError) as error:
        sys.stderr.write(f"{describe(error)}\n")
        raise SystemExit(2) from None


def describe(error: Exception) -> str:
    """One line for every field that is wrong: its flag, the value it has, what it must be."""
    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for problem in error.errors():
        flag = "--" + "-".join(str(part) for part in problem["loc"]).replace("_", "-")
        missing = problem["type"] == "missing"
        value = "missing" if missing else f"{problem['input']!r}: {problem['msg']}"
        lines.append(f"{flag} is {value}")
    return "\n".join(lines)
