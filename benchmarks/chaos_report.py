"""What chaos shows: stalls by fault, what was lost, and how memory went."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from benchmarks.chaos_servers import OF_PROCESSES, Fault, Server

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass
class Gaps:
    """Times without a token, and what they were due to."""

    fault: str = "none"
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def begin(self, fault: str) -> None:
        """From now on gaps are due to this."""
        self.fault = fault
        self.seconds.setdefault(fault, []).append(0.0)

    def add(self, began: float, ended: float) -> None:
        """A stream had no token between these moments: the longest since a fault is due to it."""
        found = self.seconds.setdefault(self.fault, [0.0])
        found[-1] = max(found[-1], ended - began)


@dataclass
class Seen:
    """What clients saw."""

    gaps: Gaps = field(default_factory=Gaps)
    streams: int = 0
    differing: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    ends: asyncio.Event = field(default_factory=asyncio.Event)


def say(console: Console, struck: Counter[tuple[str, Fault]], seen: Seen) -> None:
    """Print a line for each fault, and what was seen in all."""
    table = Table("fault", "times", "median stall", "worst stall", title="seconds without a token")
    for (role, fault), times in sorted(
        struck.items(), key=lambda one: (one[0][0], one[0][1].value)
    ):
        stalls = sorted(seen.gaps.seconds.get(f"{role}: {fault.value}", [0.0]))
        middle = stalls[len(stalls) // 2]
        table.add_row(f"{role}: {fault.value}", str(times), f"{middle:.2f}", f"{stalls[-1]:.2f}")
    console.print(table)
    ended = Counter[str]()
    for (role, fault), times in struck.items():
        ended[role] += times * (fault in OF_PROCESSES)
    by_role = ", ".join(f"{role} {count}" for role, count in sorted(ended.items()))
    console.print(f"kills, terminations and stops: {ended.total()} ({by_role})")
    console.print(f"streams: {seen.streams}, differing texts: {seen.differing}")
    console.print(f"failed streams: {seen.failures.total()}")
    for failure, count in seen.failures.most_common(8):
        console.print(f"  {count} x {failure}", highlight=False, markup=False)


def slope(server: Server, since: float) -> float | None:
    """Least squares of its memory since then, in MB a minute; None where it is too young."""
    since = max(since, server.began)
    found = [(when, size) for when, size in server.memory if when > since]
    if len(found) < 30:
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
