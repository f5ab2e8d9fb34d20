"""Whether servers grow: many messages on shared calls, then many calls that are cancelled.

python -m benchmarks.soak --messages 10000000: streams on shared calls until so many messages have
come from the orchestrator, each of which was one from the target before; then as many with a draft
as --drafted says; then calls that are cancelled behind their first token. Prints once a minute how
far it is, and in the end how the resident memory of target, draft and orchestrator grew over the
second half of each phase; draws it. Exit status 1 where that was over 1 MiB a minute.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import psutil
from rich.console import Console

from benchmarks.simulated import deployed
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation

mpl.use("Agg")
from matplotlib import pyplot as plt

TARGET = "simulated:step_ms=1,token_ms=0.001"
DRAFT = "simulated:step_ms=1,acceptance=0.8"
ROOM = ("--kv-tokens=65536",)
"""Of draft and target: they soon keep as much KV of ended streams as they may."""
STREAM_TOKENS = 2000
ROLES = ("target_server", "draft_server", "orchestrator")
MOST_GROWTH = 1.0
"""MiB a minute that count as flat."""
LEAST_SAMPLES = 60
"""Seconds of a half below which nothing is judged."""
SAID_SECONDS = 60


@dataclass
class SoakPhase:
    """One kind of work, and the memory of each role while it lasted: (when, MiB)."""

    what: str
    most: int
    done: int = 0
    memory: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {role: [] for role in ROLES}
    )

    @property
    def title(self) -> str:
        """How much of what."""
        return f"{self.most} {self.what}"

    def numbers(self) -> Iterator[int]:
        """Of streams to begin, while there is work left."""
        for number in itertools.count():
            if self.done >= self.most:
                return
            yield number


def processes() -> dict[str, psutil.Process]:
    """The servers, by role."""
    found = {}
    for child in psutil.Process().children():
        for role in ROLES:
            if role in child.cmdline():
                found[role] = child
    return found


async def watch(phase: SoakPhase, console: Console) -> None:
    """Note the memory of all, each second; say how far it is."""
    servers, began = processes(), time.monotonic()
    for second in itertools.count(1):
        for role, process in servers.items():
            phase.memory[role].append((time.monotonic(), process.memory_info().rss / 2**20))
        await asyncio.sleep(1.0)
        if second % SAID_SECONDS == 0:
            say_progress(console, phase, time.monotonic() - began)


def say_progress(console: Console, phase: SoakPhase, seconds: float) -> None:
    """How far it is, and how long the rest takes."""
    rate = max(1e-9, phase.done / seconds)
    left = max(0.0, phase.most - phase.done) / rate / 60
    sizes = ", ".join(f"{role} {found[-1][1]:.1f} MiB" for role, found in phase.memory.items())
    console.print(
        f"{phase.done} of {phase.title}, {rate:.0f} a second, {left:.0f} minutes left; {sizes}",
        highlight=False,
        soft_wrap=True,
    )


async def stream(client: Client, phase: SoakPhase, numbers: Iterator[int]) -> None:
    """Streams, one after another, until so many messages have come."""
    await _stream(client, phase, numbers, Speculation.OFF)


async def drafted(client: Client, phase: SoakPhase, numbers: Iterator[int]) -> None:
    """The same, each with a draft."""
    await _stream(client, phase, numbers, Speculation.FORCE)


async def _stream(
    client: Client, phase: SoakPhase, numbers: Iterator[int], speculation: Speculation
) -> None:
    for number in numbers:
        request = GenerateRequest(
            f"{number}",
            max_tokens=STREAM_TOKENS,
            ignore_eos=True,
            seed=number,
            speculation=speculation,
        )
        async for _ in client.generate(request):
            phase.done += 1


async def cancel(client: Client, phase: SoakPhase, numbers: Iterator[int]) -> None:
    """Calls that are cancelled behind the first token."""
    for number in numbers:
        async for _ in client.generate(f"{number}", max_tokens=STREAM_TOKENS, ignore_eos=True):
            phase.done += 1
            break


def growth(found: list[tuple[float, float]]) -> float | None:
    """Least squares over the second half, in MiB a minute; None where that is short."""
    half = found[len(found) // 2 :]
    if len(half) < LEAST_SAMPLES:
        return None
    mean = sum(when for when, _ in half) / len(half)
    above = sum((when - mean) * size for when, size in half)
    return 60 * above / sum((when - mean) ** 2 for when, _ in half)


def judge(console: Console, phase: SoakPhase) -> bool:
    """Say what memory came to; whether no role grew."""
    flat = True
    for role, found in phase.memory.items():
        grew = growth(found)
        said = "too short to judge" if grew is None else f"{grew:+.2f} MiB a minute"
        most = max(size for _, size in found)
        console.print(
            f"{phase.title}: {role} {found[0][1]:.1f} to {found[-1][1]:.1f} MiB, "
            f"at most {most:.1f}; second half {said}",
            highlight=False,
            soft_wrap=True,
        )
        flat &= grew is None or grew <= MOST_GROWTH
    return flat


def draw(path: Path, phases: list[SoakPhase]) -> None:
    """Memory over time."""
    figure, axes = plt.subplots(1, len(phases), figsize=(12, 4), sharey=True, squeeze=False)
    for axis, phase in zip(axes[0], phases, strict=True):
        for role, found in phase.memory.items():
            minutes = [(when - found[0][0]) / 60 for when, _ in found]
            axis.plot(minutes, [size for _, size in found], label=role)
        axis.set_title(phase.title)
        axis.set_xlabel("minutes")
        axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel("resident MiB")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


async def run(options: argparse.Namespace) -> bool:
    """Both phases; whether memory was flat in them."""
    console, flat = Console(), True
    phases: list[SoakPhase] = []
    async with deployed(TARGET, DRAFT, room=ROOM, port=options.port) as servers:
        for work, phase in (
            (stream, SoakPhase("messages", options.messages)),
            (drafted, SoakPhase("messages with a draft", options.drafted)),
            (cancel, SoakPhase("cancelled calls", options.cancels)),
        ):
            watching = asyncio.create_task(watch(phase, console))
            numbers = phase.numbers()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(options.streams):
                    tasks.create_task(work(servers.client, phase, numbers))
            watching.cancel()
            flat &= judge(console, phase)
            phases.append(phase)
            draw(options.plot, phases)
    return flat


def main() -> None:
    """Parse the command line and run; exit status 1 where a server grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--drafted", type=int, default=200_000)
    parser.add_argument("--cancels", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--port", type=int, default=7861, help="of the orchestrator")
    parser.add_argument("--plot", type=Path, default=Path("soak.png"))
    sys.exit(not asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
