"""Whether servers grow: many messages on shared calls, then many calls that are cancelled.

python -m benchmarks.soak: streams on shared calls until so many tokens have come, each a message
from target to orchestrator and from there to the client; then calls that are cancelled behind their
first token. Prints and draws the resident memory of orchestrator, target and draft.
"""

import argparse
import asyncio
import itertools
import time
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
ROOM = ("--kv-tokens=200000",)
STREAM_TOKENS = 2000
ROLES = ("target_server", "draft_server", "orchestrator")


def processes() -> dict[str, psutil.Process]:
    """The servers, by role."""
    found = {}
    for child in psutil.Process().children():
        for role in ROLES:
            if role in child.cmdline():
                found[role] = child
    return found


async def watch(memory: dict[str, list[tuple[float, float]]]) -> None:
    """Note the memory of all, each second."""
    servers = processes()
    while True:
        for role, process in servers.items():
            memory[role].append((time.monotonic(), process.memory_info().rss / 2**20))
        await asyncio.sleep(1.0)


async def stream(client: Client, numbers: "itertools.count[int]", most: int) -> None:
    """Streams, one after another, until so many tokens were asked for in all."""
    while (number := next(numbers)) * STREAM_TOKENS < most:
        request = GenerateRequest(
            f"{number}", max_tokens=STREAM_TOKENS, ignore_eos=True, speculation=Speculation.OFF
        )
        async for _ in client.generate(request):
            pass


async def cancel(client: Client, numbers: "itertools.count[int]", most: int) -> None:
    """Calls that are cancelled behind the first token."""
    while (number := next(numbers)) < most:
        async for _ in client.generate(f"{number}", max_tokens=STREAM_TOKENS, ignore_eos=True):
            break


def say(console: Console, what: str, memory: dict[str, list[tuple[float, float]]]) -> None:
    """What memory came to: a third of the way, and at the end."""
    for role, found in memory.items():
        first, last = found[len(found) // 3], found[-1]
        minutes = max(1e-3, (last[0] - first[0]) / 60)
        grew = (last[1] - first[1]) / minutes
        console.print(f"{what}: {role} {last[1]:.1f} MiB, {grew:+.2f} MiB a minute")


def draw(path: Path, phases: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    """Memory over time."""
    figure, axes = plt.subplots(1, len(phases), figsize=(10, 4), sharey=True)
    for axis, (what, memory) in zip(axes, phases.items(), strict=True):
        for role, found in memory.items():
            axis.plot(
                [when - found[0][0] for when, _ in found], [size for _, size in found], label=role
            )
        axis.set_title(what)
        axis.set_xlabel("seconds")
    axes[0].set_ylabel("resident MiB")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


async def run(options: argparse.Namespace) -> None:
    """Both phases."""
    console, phases = Console(), {}
    async with deployed(TARGET, DRAFT, room=ROOM) as servers:
        todo = {
            f"{options.messages} messages": (stream, options.messages),
            f"{options.cancels} cancelled calls": (cancel, options.cancels),
        }
        for what, (work, most) in todo.items():
            memory: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
            watching = asyncio.create_task(watch(memory))
            numbers = itertools.count()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(options.streams):
                    tasks.create_task(work(servers.client, numbers, most))
            watching.cancel()
            say(console, what, memory)
            phases[what] = memory
    draw(options.plot, phases)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--cancels", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--plot", type=Path, default=Path("soak.png"))
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
