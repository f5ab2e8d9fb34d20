"""The orchestrator's settings."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode, SettingsConfigDict

from orchestrator.round_settings import RoundSettings
from paceline.addresses import FORM, LAST_PORT, checked, is_loopback
from paceline.errors import InvalidArgument
from paceline.rpc.deadline import DEFAULT_SECONDS
from paceline.rpc.wire_ranges import INT32
from paceline.settings import (
    DRAFT_PORT,
    HEALTH_PORTS,
    METRICS_PORTS,
    ORCHESTRATOR_PORT,
    TARGET_PORT,
    HealthPort,
    Host,
    MetricsPort,
    Port,
)

NO_DRAFT = "none"
"""In the place of draft servers: there are none, as on `paceline up`."""
DEFAULT_POOL = "draft"
"""Name of the draft pool of addresses that stand behind no name."""
CANDIDATE = "candidate"
"""The same of drafts that are only shadowed."""
MOST_DEADLINE_SECONDS = 86400.0
"""Longest deadline that a request is given which names none."""
MOST_PRICE, MOST_TOKEN_LATENCY_MS = 1e6, 1e6
_POOL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def is_pool_name(text: str) -> bool:
    """Whether a pool can be called so."""
    return _POOL_NAME.fullmatch(text) is not None


def _split(value: object) -> object:
    if value is None:  # as the settings library reads the word None
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _addresses(value: object) -> object:
    parts = _split(value)
    return [_checked(str(part)) for part in parts] if isinstance(parts, list) else parts


def _candidates(value: object) -> object:
    """As pools, of which there may be none; an address without a name is the candidate."""
    return _pools(value, CANDIDATE)


def _pools(value: object, unnamed: str = DEFAULT_POOL) -> object:
    """Addresses by pool. A part without a name belongs to the name before it."""
    parts = _split(value)
    if not isinstance(parts, Iterable) or isinstance(parts, dict):
        return value
    words = [str(part).lower() for part in parts]
    if words == [NO_DRAFT]:
        return {}
    if NO_DRAFT in words:
        raise _wrong(f"{NO_DRAFT} must be given alone")
    groups: list[tuple[str, list[str]]] = []
    for part in parts:
        name, address = _named(part)
        if name is not None or not groups:
            groups.append((name or unnamed, []))
        groups[-1][1].append(_checked(address))
    pools: dict[str, list[str]] = {}
    for name, addresses in groups:
        if pools.setdefault(name, addresses) != addresses:
            raise _wrong(f"the name {name!r} must stand for one pool, and is given two")
    return _distinct(pools)


def _named(part: str) -> tuple[str | None, str]:
    """Name and address; what has a colon before its first = is an address."""
    name, equals, address = part.partition("=")
    if not equals or ":" in name:
        return None, part
    if not _POOL_NAME.fullmatch(name):
        raise _wrong(
            f"the name {name!r} must be a small letter, then at most 62 of a-z, 0-9, - and _"
        )
    return name, address


def _checked(address: str) -> str:
    try:
        return checked(address)
    except InvalidArgument:
        raise _wrong(f"the address {address!r} must be {FORM}") from None


def _distinct(pools: dict[str, list[str]]) -> dict[str, list[str]]:
    owners: dict[str, str] = {}
    for name, addresses in pools.items():
        for address in addresses:
            if (owner := owners.setdefault(address, name)) != name:
                raise _wrong(f"the address {address!r} must be in one pool, not {owner} and {name}")
    return pools


def _wrong(what: str) -> PydanticCustomError:
    return PydanticCustomError("draft_pools", what)


Addresses = Annotated[list[str], NoDecode, BeforeValidator(_addresses)]
"""Addresses, in flags and environment separated by commas."""
Pools = Annotated[dict[str, list[str]], NoDecode, BeforeValidator(_pools)]
"""Addresses by the name of their pool, the preferred one first: NAME=ADDRESS,ADDRESS,NAME=..."""


Candidates = Annotated[dict[str, list[str]], NoDecode, BeforeValidator(_candidates)]
"""The same, of drafts that are only shadowed."""


def _tokens(value: object) -> object:
    parts = _split(value)
    if not isinstance(parts, list):
        return parts
    pairs = [str(part).partition("=") for part in parts]
    if not all(name and token for name, _, token in pairs):
        raise _wrong("each must be NAME=TOKEN, separated by commas")
    names = [name for name, _, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _wrong(f"{twice[0]} is named twice; one with several tokens must be in --token-file")
    return {name: SecretStr(token) for name, _, token in pairs}


Tokens = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_tokens)]
"""Tokens by the names of those who have them, which nothing prints."""


class LoadSettings(RoundSettings):
    """How much is taken on at once, and whether other processes take a part of it."""

    max_streams: int = Field(
        1024,
        ge=1,
        le=65_536,
        description="Streams at once; requests beyond them wait, in turn among their callers.",
    )
    max_queued: int = Field(
        1024,
        ge=0,
        le=65_536,
        description="Requests that may wait, as streams are too many or targets full; more are "
        "refused.",
    )
    share_port: bool = Field(
        False,
        description="Other orchestrators of this user that say so too may listen at --port: the "
        "system, Linux, spreads connections over them. Their other ports differ.",
    )

    @property
    def port_is_shared(self) -> bool:
        """See ServerSettings."""
        return self.share_port

    @model_validator(mode="after")
    def _has_a_port_to_share(self) -> Self:
        if self.share_port and self.socket:
            raise _wrong("--share-port is for a port; a Unix socket, --socket, has one listener")
        if self.share_port and self.port == 0:
            raise _wrong("--share-port needs a --port that others know; 0 takes a free one")
        return self


class DoorSettings(LoadSettings):
    """Who may call, and which servers are trusted."""

    tls_server_ca: Path | None = Field(
        None,
        description="Certificates in PEM that sign the targets' and drafts': they are dialed over "
        "TLS, and shown --tls-certificate where there is one. Unless given: in plaintext.",
    )
    token_file: Path | None = Field(
        None,
        description="TOML with the bearer tokens of callers, and what each may take. Unless "
        "given: none.",
    )
    tokens: Tokens = Field(
        {},
        repr=False,
        description="Bearer tokens, NAME=TOKEN, separated by commas; best in the environment. "
        "Unless given: none.",
    )


class ShadowSettings(DoorSettings):
    """Which drafts are measured on live traffic, and not used."""

    shadow_draft: Candidates = Field(
        {},
        description="Candidate drafts, NAME=ADDRESS as for draft: each is measured on outputs that "
        "have ended, and used for none. Unless given: none.",
    )
    shadow_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of outputs that a candidate is measured on, as far as it keeps up with "
        "one at a time.",
    )


class ObjectiveSettings(ShadowSettings):
    """What the pacer minimises."""

    objective: Literal["time", "cost"] = Field(
        "time",
        description="What the pacer minimises: a token's time, or its cost in steps of both "
        "servers. The output is the same.",
    )
    target_price: float | None = Field(
        None,
        gt=0,
        le=MOST_PRICE,
        description="With --objective cost: of a target server, an hour, in any currency. "
        "Unless given: none.",
    )
    draft_price: float | None = Field(
        None,
        ge=0,
        le=MOST_PRICE,
        description="Likewise, of the draft servers that serve one target. Unless given: none.",
    )
    max_token_latency_ms: float | None = Field(
        None,
        gt=0,
        le=MOST_TOKEN_LATENCY_MS,
        description="With --objective cost: most that a token may be expected to take. Where that "
        "cannot be, time is minimised. Unless given: any.",
    )

    @model_validator(mode="after")
    def _has_what_its_objective_needs(self) -> Self:
        """Prices with cost, and nothing of it with time."""
        if self.objective == "cost":
            for name in ("target_price", "draft_price"):
                if getattr(self, name) is None:
                    raise _wrong(f"{_flag(name)} is missing; --objective cost needs it")
            return self
        for name in ("target_price", "draft_price", "max_token_latency_ms"):
            if (value := getattr(self, name)) is not None:
                raise _wrong(f"{_flag(name)} is {value:g}; it must be given with --objective cost")
        return self


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class OrchestratorSettings(ObjectiveSettings):
    """Answers clients: runs rounds between draft and target servers and streams the tokens."""

    examples: ClassVar[tuple[str, ...]] = (
        "python -m orchestrator --target localhost:7071 --draft localhost:7072",
        "python -m orchestrator --draft small=a:7072,b:7072 --draft lookup=c:7072",
        "PACELINE_ORCHESTRATOR_TARGET=a:7071,b:7071 python -m orchestrator",
    )
    model_config = SettingsConfigDict(
        env_prefix="PACELINE_ORCHESTRATOR_", cli_prog_name="python -m orchestrator"
    )

    port: Port = ORCHESTRATOR_PORT
    health_port: HealthPort = ORCHESTRATOR_PORT + HEALTH_PORTS
    metrics_port: MetricsPort = ORCHESTRATOR_PORT + METRICS_PORTS
    page_port: int = Field(
        0,
        ge=0,
        le=LAST_PORT,
        description="Port of a page to look at in a browser: tokens by origin, rounds, speed. "
        "0: none.",
    )
    page_host: Host = Field(
        "127.0.0.1",
        description="Address to listen on, for the page, in plain HTTP: beyond this machine it "
        "needs --plaintext. Whoever reaches it may ask for tokens.",
    )
    target: Addresses = Field(
        [f"localhost:{TARGET_PORT}"],
        min_length=1,
        description="Target servers, separated by commas: host:port or unix:/path; a name is "
        "all it resolves to.",
    )
    draft: Pools = Field(
        {DEFAULT_POOL: [f"localhost:{DRAFT_PORT}"]},
        description="Draft servers, likewise; none: the target alone. They need not be there. "
        "NAME=ADDRESS,ADDRESS names a pool of equal ones, addresses before any name are the pool "
        f"{DEFAULT_POOL!r}; give several, the preferred one first, again or behind commas, to "
        "have them compared.",
    )
    default_deadline_seconds: float = Field(
        DEFAULT_SECONDS,
        gt=0,
        le=MOST_DEADLINE_SECONDS,
        description="Deadline of a request whose caller gives none. Waiting for KV counts.",
    )
    default_max_tokens: int = Field(
        1024, ge=1, le=INT32[-1], description="max_tokens of a request that names none."
    )
    generation_config: Literal["model", "none"] = Field(
        "model",
        description="Sampling that a request leaves open: as the model's own "
        "generation_config.json has it, or none: neutral.",
    )

    @property
    def other_ports(self) -> dict[str, tuple[str, str]]:
        """See ServerSettings."""
        return {**super().other_ports, "page_port": ("the page", self.page_host)}

    @model_validator(mode="after")
    def _has_a_page_that_is_meant_for_all_it_reaches(self) -> Self:
        if self.page_port and not (self.plaintext or is_loopback(self.page_host)):
            raise _wrong(
                f"--page-host is {self.page_host}: the page is plain HTTP, and other machines "
                "reach it with --plaintext only, where the network is trusted"
            )
        return self

    @model_validator(mode="after")
    def _has_one_name_for_each_draft(self) -> Self:
        """A candidate is another one than the drafts in use."""
        if twice := sorted(self.draft.keys() & self.shadow_draft.keys()):
            raise _wrong(f"--shadow-draft must have names that --draft has not: {twice[0]!r}")
        return self
