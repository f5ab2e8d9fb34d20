"""The ports of `paceline up`: the orchestrator's as told, all others where they are free."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from paceline.addresses import LAST_PORT
from paceline.errors import Unavailable
from paceline.ports import check_port
from paceline.settings import HEALTH_PORTS, METRICS_PORTS, PAGE_PORTS
from paceline_tools.listener import GATEWAY_PORTS

PAGE, GATEWAY, GATEWAY_METRICS = "the page", "the gateway", "metrics of the gateway"


@dataclass(frozen=True, slots=True)
class Ports:
    """By what listens there. moved: those whose own port is taken."""

    of: Mapping[str, int]
    moved: Sequence[str]

    def health(self, server: str) -> int:
        """Of a server, by its name."""
        return self.of[_health(server)]

    def metrics(self, server: str) -> int:
        """Of a server, by its name."""
        return self.of[_metrics(server)]

    @property
    def news(self) -> str:
        """Where those are that moved; empty where none did."""
        where = ", ".join(f"{what} at {self.of[what]}" for what in self.moved)
        return f"some ports are taken, so others are used: {where}" if where else ""


def _health(server: str) -> str:
    return f"health of the {server}"


def _metrics(server: str) -> str:
    return f"metrics of the {server}"


def usual_ports(port: int, servers: Sequence[str], *, page: bool, gateway: bool) -> dict[str, int]:
    """Where all but the orchestrator's would be, by what listens there. servers: their names."""
    ports = {}
    for at, name in enumerate(servers):
        ports[_health(name)] = port + HEALTH_PORTS + at
        ports[_metrics(name)] = port + METRICS_PORTS + at
    if page:
        ports[PAGE] = port + PAGE_PORTS
    if gateway:
        ports |= {GATEWAY: port + GATEWAY_PORTS[0], GATEWAY_METRICS: port + GATEWAY_PORTS[1]}
    return ports


def choose_ports(host: str, port: int, usual: Mapping[str, int]) -> Ports:
    """The usual ports, and for each that is taken the next free one above it.

    port: the orchestrator's. Raises Unavailable where no port is free.
    """
    chosen: dict[str, int] = {}
    for what, wanted in usual.items():
        others = {port, *chosen.values(), *(one for name, one in usual.items() if name != what)}
        chosen[what] = _free(host, what, _tried(wanted, port, others))
    return Ports(chosen, [what for what, wanted in usual.items() if chosen[what] != wanted])


def _tried(wanted: int, port: int, others: set[int]) -> Iterator[int]:
    above = chain(range(wanted, LAST_PORT + 1), range(port + 1, LAST_PORT + 1))
    return (one for one in above if one not in others)


def _free(host: str, what: str, tried: Iterator[int]) -> int:
    for port in tried:
        try:
            check_port(host, port, "--port")
        except Unavailable:
            continue
        return port
    raise Unavailable(f"no port is free for {what}; choose another --port")
