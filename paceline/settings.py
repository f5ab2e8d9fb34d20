"""Settings: one class per process, from flags, environment and file, in that order."""

import re
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from paceline.addresses import LAST_PORT, is_host, join
from paceline.command_line import BadUsage, command_line, describe

ORCHESTRATOR_PORT, TARGET_PORT, DRAFT_PORT = 7070, 7071, 7072
"""Where each kind of server takes calls, unless told otherwise."""
HEALTH_PORTS, METRICS_PORTS = 100, 200
"""So far above its port for calls are the others of a server."""
Port = Annotated[
    int, Field(ge=0, le=LAST_PORT, description="Port for calls; 0 takes any free one.")
]
HealthPort = Annotated[
    int, Field(ge=0, le=LAST_PORT, description="Port for grpc.health.v1, always plaintext.")
]
MetricsPort = Annotated[int, Field(ge=0, le=LAST_PORT, description="Port for Prometheus.")]
LogLevel = Literal["debug", "info", "warning", "error"]
DEFAULT_LOG_LEVEL: LogLevel = "info"

_SERVICE_LINK = re.compile(r"[a-z]+://\S+:\d+")
"""What Kubernetes, and Docker before it, put into NAME_PORT for a service called name."""


def _host(value: str) -> str:
    if not is_host(value):
        raise ValueError("must be a name or an address to listen on, without a port")
    return value


class _Environment(EnvSettingsSource):
    """The environment without service links: PACELINE_TARGET_PORT=tcp://10.0.0.1:7071 is no port.

    They are there where a service has a server's name, as paceline-target.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {
            name: value
            for name, value in self.env_vars.items()
            if not (name.lower().endswith("port") and _SERVICE_LINK.fullmatch(value or ""))
        }


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

    examples: ClassVar[tuple[str, ...]] = ()
    """Command lines, for --help."""

    host: Annotated[str, AfterValidator(_host)] = Field(
        "0.0.0.0",  # noqa: S104  servers in containers are reached from outside
        description="Address to listen on, for calls, health and metrics.",
    )
    port: Port
    health_port: HealthPort
    metrics_port: MetricsPort
    socket: Path | None = Field(
        None, description="Unix socket to listen on for calls. Unless given: host and port."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="How long running streams may go on after SIGTERM."
    )
    log_level: LogLevel = Field(DEFAULT_LOG_LEVEL, description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="Form of the log lines.")

    @property
    def address(self) -> str:
        """Where calls are taken: host:port, [IPv6]:port, or unix:/path."""
        return f"unix:{self.socket}" if self.socket else join(self.host, self.port)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags come before these by themselves."""
        return (init_settings, _Environment(settings_cls), dotenv_settings, file_secret_settings)


Settings = TypeVar("Settings", bound=ServerSettings)
STATUS = """exit status:
  0 stopped, as SIGTERM or SIGINT asked; 1 it failed; 2 a flag, a variable or a
  setting cannot be right"""


def parse(kind: type[Settings], arguments: list[str] | None = None) -> Settings:
    """Settings of one process; on bad ones prints each field with its limit and exits with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    source = command_line(kind, examples={"": kind.examples}, epilog=STATUS)
    try:
        return CliApp.run(kind, cli_args=arguments, cli_settings_source=source)
    except (ValidationError, SettingsError, BadUsage) as error:
        sys.stderr.write(f"{describe(error, kind)}\n")
        raise SystemExit(2) from None
