"""What an orchestrator knows of the servers it draws on, as plain values."""

import enum
from dataclasses import dataclass

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
class Status:
    """The orchestrator's machine, and every server it knows an address of."""

    machine: Machine
    servers: tuple[Server, ...]

    def of(self, role: Role) -> list[Server]:
        """Servers that do this."""
        return [server for server in self.servers if server.role is role]
