"""What an orchestrator knows of the servers it draws on, as plain values."""

import enum
from dataclasses import dataclass, fields, replace

from paceline.protocol.model import Machine, ModelInfo
from paceline.protocol.session import Load

LOADING = "loading: "
"""How the reason begins of a server that does not serve yet; behind it how far it is."""


class Role(enum.Enum):
    """What a server does."""

    TARGET = "target"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Server:
    """A target or draft server: paceline.v1.Server. Times in seconds. pool: a draft's.

    vocabulary: what a draft has of a target's, in words; empty where all. wrong_vocabulary: too
    little of it, so that the draft is not used.
    """

    role: Role
    address: str
    reachable: bool
    reason: str
    model: ModelInfo | None
    load: Load
    draining: bool
    machine: Machine | None
    round_trip_seconds: float
    clock_offset_seconds: float
    pool: str = ""
    vocabulary: str = ""
    wrong_vocabulary: bool = False

    @property
    def loading(self) -> bool:
        """Whether it answers already, and does not serve yet."""
        return not self.reachable and self.reason.startswith(LOADING)

    @property
    def kv_share(self) -> float:
        """See Load.kv_share; its reserve is not for new streams."""
        kv = self.model.kv if self.model is not None else None
        return self.load.kv_share(kv.reserve if kv is not None else 0)


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the orchestrator began, streams that still run included.

    waiting: of those running, who wait for a target or for KV there.
    """

    running: int = 0
    streams: int = 0
    tokens: int = 0
    rounds: int = 0
    target_only_steps: int = 0
    drafted: int = 0
    verified: int = 0
    accepted: int = 0
    waiting: int = 0

    def since(self, earlier: "Totals") -> "Totals":
        """What came since `earlier`; running and waiting are as they are now."""
        counts = {
            field.name: getattr(self, field.name) - getattr(earlier, field.name)
            for field in fields(self)
        }
        return replace(Totals(**counts), running=self.running, waiting=self.waiting)

    @property
    def acceptance_rate(self) -> float:
        """Accepted / verified, 0 when none was verified. vLLM divides by drafted."""
        return self.accepted / self.verified if self.verified else 0.0


class PoolState(enum.Enum):
    """How a draft pool stands."""

    IN_USE = "in use"
    STANDBY = "standby"
    BENCHED = "benched"
    PROBING = "probing"
    FULL = "full"
    UNREACHABLE = "not reachable"
    WRONG_VOCABULARY = "wrong vocabulary"


@dataclass(frozen=True, slots=True)
class Speedup:
    """Speed over that of the target alone at the same load, with an interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, with an interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What a candidate was asked, since the orchestrator began.

    outputs: that it walked along, whole or not. dropped: outputs that were drawn while others
    waited or the candidate was not usable. failed: outputs that the candidate did not get through.
    judged: draft tokens up to each round's first wrong one; accepted: of these, right.
    """

    outputs: int = 0
    dropped: int = 0
    failed: int = 0
    judged: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class ShadowTimes:
    """What a candidate and the target took; None while unknown.

    token_seconds: of a draft token; restart_seconds: until the first one behind news;
    target_step_seconds: of the target; verify_token_seconds: of each token that it verifies.
    """

    token_seconds: float | None = None
    restart_seconds: float | None = None
    target_step_seconds: float | None = None
    verify_token_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A candidate draft that is measured on live traffic and not used; None while unknown.

    share: of outputs. hindrance: why it cannot be asked, in words. outputs, tokens: of the model
    that it has now. draft_rate: rounds in which it had a draft token. free: it only looks up.
    """

    name: str
    addresses: tuple[str, ...] = ()
    share: float = 0.0
    model: str = ""
    hindrance: str = ""
    counts: ShadowCounts = ShadowCounts()
    outputs: int = 0
    tokens: int = 0
    acceptance: Interval | None = None
    draft_rate: float = 0.0
    times: ShadowTimes = ShadowTimes()
    shares_cores: bool = False
    free: bool = False


@dataclass(frozen=True, slots=True)
class DraftPoolCounts:
    """What streams did with a pool's drafts, since the orchestrator began.

    streams: that were given one of its drafts, of which `running` run. wasted: draft tokens
    received and not accepted.
    """

    streams: int = 0
    running: int = 0
    drafted: int = 0
    verified: int = 0
    accepted: int = 0
    wasted: int = 0


@dataclass(frozen=True, slots=True)
class DraftPoolTimes:
    """What streams of a pool wait for, in seconds; None while unknown.

    decode_step_seconds: an ordinary decode step of a stream that is alone. next_token_seconds:
    until the next draft token. restart_seconds: until the first one after a wrong one.
    """

    decode_step_seconds: float | None = None
    next_token_seconds: float | None = None
    restart_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DraftPoolStatus:
    """A pool of drafts, and what its streams did; None while unknown.

    reason: of the state, in words. acceptance_rate: of recent draft tokens verified, also by
    draft position.
    """

    name: str
    addresses: tuple[str, ...] = ()
    replicas: int = 0
    replicas_ready: int = 0
    state: PoolState = PoolState.UNREACHABLE
    reason: str = ""
    acceptance_rate: float | None = None
    acceptance_by_position: tuple[float, ...] = ()
    speedup: Speedup | None = None
    counts: DraftPoolCounts = DraftPoolCounts()
    times: DraftPoolTimes = DraftPoolTimes()


@dataclass(frozen=True, slots=True)
class UnresolvedName:
    """A name in the settings of targets or of a draft pool that stands for no address, and why."""

    role: Role
    pool: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """The orchestrator's machine, every server it knows an address of, and how it goes."""

    machine: Machine
    servers: tuple[Server, ...]
    totals: Totals = Totals()
    draft_pools: tuple[DraftPoolStatus, ...] = ()
    unresolved: tuple[UnresolvedName, ...] = ()
    shadows: tuple[Shadow, ...] = ()

    def of(self, role: Role) -> list[Server]:
        """Servers that do this."""
        return [server for server in self.servers if server.role is role]
