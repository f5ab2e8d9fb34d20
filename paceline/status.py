"""What an orchestrator knows of the servers it draws on, as plain values."""

import enum
from dataclasses import dataclass, fields, replace

from paceline.session import Load, Machine, ModelInfo


class Role(enum.Enum):
    """What a server does."""

    TARGET = "target"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Server:
    """A target or draft server: paceline.v1.Server. Times in seconds."""

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


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the orchestrator began, streams that still run included."""

    running: int = 0
    streams: int = 0
    tokens: int = 0
    rounds: int = 0
    plain_steps: int = 0
    drafted: int = 0
    verified: int = 0
    accepted: int = 0

    def since(self, earlier: "Totals") -> "Totals":
        """What came since `earlier`; running is as it is now."""
        counts = {
            field.name: getattr(self, field.name) - getattr(earlier, field.name)
            for field in fields(self)
        }
        return replace(Totals(**counts), running=self.running)

    @property
    def acceptance_rate(self) -> float:
        """Accepted of verified draft tokens; 0 when none was verified."""
        return self.accepted / self.verified if self.verified else 0.0


@dataclass(frozen=True, slots=True)
class Drafting:
    """What the orchestrator has learned of its drafts; times in seconds, None while unknown.

    acceptance_rate: of recent guesses behind right ones. gain: speed of speculating rounds over
    that of plain steps. benched: given up but for probes. plain_seconds: of a plain step.
    wait_seconds: for the next guess; restart_seconds: for the first one after a wrong one.
    """

    acceptance_rate: float = 0.0
    benched: bool = False
    gain: float | None = None
    plain_seconds: float | None = None
    wait_seconds: float | None = None
    restart_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The orchestrator's machine, every server it knows an address of, and how it goes."""

    machine: Machine
    servers: tuple[Server, ...]
    totals: Totals = Totals()
    drafting: Drafting = Drafting()

    def of(self, role: Role) -> list[Server]:
        """Servers that do this."""
        return [server for server in self.servers if server.role is role]
