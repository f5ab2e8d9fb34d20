"""What chaos shows: stalls by fault, what was lost, and how memory went."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
from rich.console import Console

from benchmarks.chaos_servers import OF_PROCESSES, Fault, Server

mpl.use("Agg")
from matplotlib import pyplot as plt

ALREADY_SECONDS = 0.15
"""A stream that has had no token for so long when a fault begins lacks it for another reason."""
MOST_STALLS = 5
WARM_UP_SECONDS = 120.0
"""What a process takes in its first minutes says nothing of what it takes later."""
LEAST_LOOKS = 60


@dataclass(order=True)
class Stall:
    """A time in which a stream had no token. began: by time.time(), as logs have it."""

    seconds: float
    began: float
    fault: str
    stream: str


@dataclass
class Gaps:
    """Times without a token, and what they were due to.

    events: (when, what), of faults and of servers that are whole again. worst: the longest stalls
    of different faults.
    """

    faults: list[tuple[float, str]] = field(default_factory=lambda: [(0.0, "none")])
    longest: list[float] = field(default_factory=lambda: [0.0])
    events: list[tuple[float, str]] = field(default_factory=list)
    worst: dict[int, Stall] = field(default_factory=dict)

    def begin(self, fault: str) -> None:
        """From now on gaps are due to this."""
        self.faults.append((time.time(), fault))
        self.longest.append(0.0)
        self.note(fault)

    def note(self, event: str) -> None:
        """It happens now."""
        self.events.append((time.time(), event))

    def add(self, began: float, ended: float, stream: str) -> None:
        """A stream had no token between these moments: the last fault before is why."""
        index = len(self.faults) - 1
        while index and self.faults[index][0] > began + ALREADY_SECONDS:
            index -= 1
        seconds = ended - began
        if seconds > self.longest[index]:
            self.longest[index] = seconds
            self.worst[index] = Stall(seconds, began, self.faults[index][1], stream)
            self._forget()

    def _forget(self) -> None:
        if len(self.worst) > MOST_STALLS:
            del self.worst[min(self.worst, key=lambda index: self.worst[index])]

    def of(self, fault: str) -> list[float]:
        """The longest stall of each time that it struck, ascending."""
        pairs = zip(self.faults, self.longest, strict=True)
        return sorted(seconds for (_, name), seconds in pairs if name == fault)


@dataclass
class Seen:
    """What clients saw. late_seconds: of their own event loop, at most."""

    gaps: Gaps = field(default_factory=Gaps)
    streams: int = 0
    differing: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    late_seconds: float = 0.0
    ends: asyncio.Event = field(default_factory=asyncio.Event)


def say(console: Console, struck: Counter[tuple[str, Fault]], seen: Seen) -> None:
    """Print a row of Markdown for each fault, and what was seen in all."""
    print("| fault | times | median, worst stall |\n|---|---|---|")
    for role, fault in sorted(struck, key=lambda one: (one[0], one[1].value)):
        stalls = seen.gaps.of(f"{role}: {fault.value}")
        middle = stalls[len(stalls) // 2]
        print(f"| {role}: {fault.value} | {len(stalls)} | {middle:.2f}, {stalls[-1]:.2f} s |")
    ended = Counter[str]()
    for (role, fault), times in struck.items():
        ended[role] += times * (fault in OF_PROCESSES)
    by_role = ", ".join(f"{role} {count}" for role, count in sorted(ended.items()))
    console.print(f"kills, terminations and stops: {ended.total()} ({by_role})")
    console.print(f"faults of the network: {struck.total() - ended.total()}")
    console.print(f"streams: {seen.streams}, differing texts: {seen.differing}")
    console.print(f"the clients' own event loop was late by {seen.late_seconds:.2f} s at most")
    console.print(f"failed streams: {seen.failures.total()}")
    for failure, count in seen.failures.most_common(8):
        console.print(f"  {count} x {failure}", highlight=False, markup=False)


def say_worst(seen: Seen, folder: Path) -> None:
    """What happened around the worst stalls: faults, servers that came back, and lines of logs."""
    for stall in sorted(seen.gaps.worst.values(), reverse=True):
        print(f"stall of {stall.seconds:.2f} s of stream {stall.stream}, due to {stall.fault}")
        since, until = stall.began - 3.0, stall.began + stall.seconds + 0.5
        events = [*seen.gaps.events, *_logged(folder)]
        for when, what in sorted(one for one in events if since < one[0] < until):
            print(f"  {when - stall.began:+6.2f} s {what}"[:240])


def _logged(folder: Path) -> Iterator[tuple[float, str]]:
    """What servers logged, and when."""
    for path in folder.glob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            try:
                said = json.loads(line)
                when = datetime.fromisoformat(said.pop("timestamp")).timestamp()
            except (ValueError, KeyError, AttributeError):
                continue
            for name in ("level", "logger", "request_id", "method"):
                said.pop(name, None)
            yield when, f"{path.stem}: {said.pop('event', '')} {said or ''}"


def slope(server: Server, since: float) -> float | None:
    """Least squares of its memory since then, in MB a minute; None where it is too young."""
    since = max(since, server.began + WARM_UP_SECONDS)
    found = [(when, size) for when, size in server.memory if when > since]
    if len(found) < LEAST_LOOKS:
        return None
    mean = sum(when for when, _ in found) / len(found)
    middle = sum(size for _, size in found) / len(found)
    above = sum((when - mean) * (size - middle) for when, size in found)
    below = sum((when - mean) ** 2 for when, _ in found)
    return 60 * above / below / 1e6


def say_memory(console: Console, made: dict[str, list[Server]], halfway: float) -> None:
    """How the memory of each process went over the second half, if it is old enough."""
    for server in (one for some in made.values() for one in some):
        found = slope(server, halfway)
        said = "too young to say" if found is None else f"{found:+.2f} MB a minute"
        console.print(f"memory of {server.name} over the second half: {said}", highlight=False)


def draw_memory(path: Path, made: dict[str, list[Server]], halfway: float) -> None:
    """The memory of each server over time, a line for each of its processes."""
    servers = [one for some in made.values() for one in some]
    began = min(server.memory[0][0] for server in servers)
    figure, axes = plt.subplots(figsize=(9, 5))
    for server in servers:
        minutes = [(when - began) / 60 for when, _ in server.memory]
        axes.plot(minutes, [size / 2**20 for _, size in server.memory], label=server.name)
    axes.axvline((halfway - began) / 60, color="grey", linestyle=":")
    axes.set_xlabel("minutes; from the dotted line on the first server of each role runs on")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(bottom=0)
    axes.legend(ncols=3)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
