"""Settings: one class per process, from flags, environment and file, in that order."""

import os
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from paceline import log
from paceline.addresses import LAST_PORT, is_host, is_loopback, join
from paceline.command_line import BadUsage, command_line, describe
from paceline.environment import Environment
from paceline.tracing import start as tracing

ORCHESTRATOR_PORT, TARGET_PORT, DRAFT_PORT = 7070, 7071, 7072
"""Where each kind of server takes calls, unless told otherwise."""
HEALTH_PORTS, METRICS_PORTS, PAGE_PORTS = 100, 200, 300
"""So far above its port for calls are the others of a server, and, of `up`, the page."""
Port = Annotated[
    int, Field(ge=0, le=LAST_PORT, description="Port for calls; 0 takes any free one.")
]
HealthPort = Annotated[
    int, Field(ge=0, le=LAST_PORT, description="Port for grpc.health.v1, always plaintext.")
]
MetricsPort = Annotated[int, Field(ge=0, le=LAST_PORT, description="Port for Prometheus.")]
LogLevel = Literal["debug", "info", "warning", "error"]
DEFAULT_LOG_LEVEL: LogLevel = "info"


def _host(value: str) -> str:
    if not is_host(value):
        raise ValueError("must be a name or an address to listen on, without a port")
    return value


Host = Annotated[str, AfterValidator(_host)]
"""Where to listen."""


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

    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on, for calls, health and metrics. Beyond this machine "
        "(0.0.0.0) calls need TLS, or --plaintext.",
    )
    port: Port
    health_port: HealthPort
    metrics_port: MetricsPort
    socket: Path | None = Field(
        None, description="Unix socket to listen on for calls. Unless given: host and port."
    )
    tls_certificate: Path | None = Field(
        None,
        description="Certificate and its chain in PEM: calls and metrics are over TLS. "
        "Unless given: in plaintext.",
    )
    tls_key: Path | None = Field(
        None, description="Its key in PEM, without a password. Unless given: none."
    )
    tls_client_ca: Path | None = Field(
        None,
        description="Certificates in PEM that sign callers': each has to show one (mTLS). "
        "Unless given: none has to.",
    )
    plaintext: bool = Field(
        False, description="Listen beyond this machine without TLS: the network is trusted."
    )
    reflection: bool | None = Field(
        None, description="List the services to whoever asks. Unless given: on this machine only."
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=86_400, description="How long running streams may go on after SIGTERM."
    )
    log_level: LogLevel = Field(DEFAULT_LOG_LEVEL, description="Least level that is logged.")
    log_format: log.Form = Field("auto", description=log.FORMS)

    @model_validator(mode="after")
    def _has_ports_of_its_own(self) -> Self:
        ports = {"--port": 0 if self.socket else self.port}
        ports |= {f"--{name.replace('_', '-')}": getattr(self, name) for name in self.other_ports}
        for flag, port in ports.items():
            twice = [other for other, its in ports.items() if its == port != 0 and other != flag]
            if twice:
                other = twice[0]
                raise _wrong(f"{flag} is {port}; it must be another port than {other} has")
        return self

    @property
    def other_ports(self) -> dict[str, tuple[str, str]]:
        """What listens beside calls, and where, by its port's field; 0 is none of anybody's."""
        return {"health_port": ("health", self.host), "metrics_port": ("metrics", self.host)}

    @property
    def port_is_shared(self) -> bool:
        """Whether others may listen at the port for calls, too."""
        return False

    @model_validator(mode="after")
    def _has_whole_doors(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise _wrong("--tls-certificate and --tls-key are given both or not at all")
        if self.tls_client_ca and not self.tls_certificate:
            raise _wrong("--tls-client-ca needs --tls-certificate and --tls-key beside it")
        if not (self.socket or self.tls_certificate):
            needed = "--tls-certificate and --tls-key, or --plaintext"
            check_trusted(self.host, needed, trusted=self.plaintext)
        return self

    @classmethod
    def setting(cls, name: str) -> str:
        """How a field is set: its flag, and its environment variable."""
        prefix = cls.model_config.get("env_prefix", "")
        return f"--{name.replace('_', '-')} ({prefix}{name.upper()})"

    @classmethod
    def service_name(cls) -> str:
        """What traces call the process unless OTEL_SERVICE_NAME says: paceline-target."""
        return cls.model_config.get("env_prefix", "").strip("_").replace("_", "-").lower()

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
        return (init_settings, Environment(settings_cls), dotenv_settings, file_secret_settings)


Settings = TypeVar("Settings", bound=ServerSettings)
STATUS = """exit status:
  0 stopped, as SIGTERM or SIGINT asked; 1 it failed; 2 a flag, a variable, a
  model or a file cannot be right; 130 SIGINT came while its code was loaded"""


def parse(kind: type[Settings], arguments: list[str] | None = None) -> Settings:
    """Settings of one process; on bad ones prints each field with its limit and exits with 2.

    As log lines where the process logs JSON.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    source = command_line(kind, examples={"": kind.examples}, epilog=f"{tracing.HELP}\n\n{STATUS}")
    try:
        return CliApp.run(kind, cli_args=arguments, cli_settings_source=source)
    except (ValidationError, SettingsError, BadUsage) as error:
        said = describe(error, kind, arguments)
    if log.form(_asked_form(kind, arguments)) == "json":
        log.say(said.splitlines())
    else:
        sys.stderr.write(f"{said}\n")
    raise SystemExit(2)


def _asked_form(kind: type[BaseSettings], arguments: list[str]) -> str:
    """The form of the log that flags or environment ask for, though others of them are wrong."""
    name = f"{kind.model_config.get('env_prefix', '')}LOG_FORMAT"
    asked = os.environ.get(name, "auto")
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--log-format":
            asked = value if equals else "".join(arguments[index + 1 : index + 2])
    return asked


def check_trusted(host: str, needed: str, *, trusted: bool) -> None:
    """Raise ValueError where calls would be taken in plaintext from a network nobody trusts."""
    if not trusted and not is_loopback(host):
        raise _wrong(
            f"--host is {host}: calls from other machines need {needed} where the network is "
            "trusted"
        )


def _wrong(what: str) -> PydanticCustomError:
    """An error whose text is all there is to say."""
    return PydanticCustomError("settings", "{what}", {"what": what})
