"""Overload: clients that ask for ten times what the servers can do.

python -m benchmarks.overload: simulated models whose step takes longer the more rows it has. First
as many streams as the servers take at their best, then ten times as many, all but two of one greedy
client, the two of a polite one. Several processes ask, by bare stubs, so that the time they take
themselves does not count. Prints tokens per second of streams that became whole, how long
a refusal took, and what each client got; draws it.
"""

import argparse
import asyncio
import itertools
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console

from benchmarks.simulated import PORT, deployed
from paceline.errors import ResourceExhausted
from paceline.rpc.channels import open_channel
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import generation_pb2, generation_pb2_grpc

TARGET = "simulated:step_ms=20,token_ms=2"
HOSTS = {"greedy": "127.0.0.1", "polite": "[::1]"}
"""Callers are told apart by their addresses."""
PROCESSES = 4
"""That ask for each client."""
LOOK_SECONDS = 0.01
START_SECONDS = 60.0
"""They have so long to start."""
DRAFT = "simulated:step_ms=5,acceptance=0.7"


@dataclass
class Load:
    """What became of a load. late: seconds by which the asking processes' own loops were late."""

    seconds: float
    served: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    tokens: list[tuple[float, int]] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Of streams that became whole."""
        return sum(count for _, count in self.tokens) / self.seconds


def add(loads: Iterable[Load], whole: Load) -> Load:
    """`whole`, with what each process saw."""
    for load in loads:
        for name in ("served", "refused", "others"):
            getattr(whole, name).update(getattr(load, name))
        whole.tokens += load.tokens
        whole.refusals += load.refusals
        whole.late += load.late
    whole.tokens.sort()
    return whole


async def ask_on(stub: Any, name: str, drawn: random.Random, tokens: int, load: Load) -> None:
    """Ask for one output after another; what is refused is asked again when that helps.

    Outputs are half as long to one and a half times as long: streams do not end in step.
    """
    while True:
        request = generation_pb2.GenerateRequest(
            prompt=generation_pb2.Prompt(text=name),
            max_tokens=drawn.randint(tokens // 2, tokens * 3 // 2),
            ignore_eos=True,
            speculation=generation_pb2.SPECULATION_OFF,
        )
        began = time.monotonic()
        try:
            events = [event async for event in stub.Generate(request, timeout=30.0)]
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure)
            if isinstance(error, ResourceExhausted):
                load.refused[name] += 1
                load.refusals.append(time.monotonic() - began)
                pause = min(error.retry_after or 1.0, 1.0)
                await asyncio.sleep(pause * drawn.uniform(0.5, 1.5))  # as clients should
            else:
                load.others[f"{type(error).__name__}: {error}"[:90]] += 1
        else:
            load.served[name] += 1
            count = sum(len(event.delta.tokens) for event in events if event.HasField("delta"))
            load.tokens.append((time.monotonic(), count))


async def be_late(load: Load) -> None:
    """Measure how late the loop is: so much of what a refusal takes is the asking process's."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
        load.late.append(time.monotonic() - began - LOOK_SECONDS)


async def ask_all(name: str, streams: int, tokens: int, seconds: float) -> Load:
    """So many streams of a client at once, from when all processes are ready."""
    load = Load(seconds)
    async with open_channel(f"{HOSTS[name]}:{PORT}") as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        await asyncio.wait_for(channel.channel_ready(), 10.0)
        await asyncio.to_thread(_barriers[0].wait, START_SECONDS)
        drawn = random.Random(f"{name} {os.getpid()}")  # noqa: S311  no secret
        asking = [
            asyncio.create_task(ask_on(stub, name, drawn, tokens, load)) for _ in range(streams)
        ]
        asking.append(asyncio.create_task(be_late(load)))
        await asyncio.sleep(seconds)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return load


_barriers: list[Any] = []
"""In each of the processes: where it waits until all are ready."""


def wait_at(barrier: Any) -> None:
    """Have the process wait there: a bound method would bring a list of its own."""
    _barriers.append(barrier)


def in_a_process(*how: Any) -> Load:
    """As ask_all."""
    return asyncio.run(ask_all(*how))


async def watch(process: psutil.Process, load: Load) -> None:
    """The orchestrator's memory, each second."""
    while True:
        load.memory.append((time.monotonic(), process.memory_info().rss / 2**20))
        await asyncio.sleep(1.0)


async def under(
    streams: dict[str, int], tokens: int, seconds: float, process: psutil.Process
) -> Load:
    """So many streams of each client at once, for so long, asked by several processes."""
    whole, loop = Load(seconds), asyncio.get_running_loop()
    shares = [
        (name, count // PROCESSES + (index < count % PROCESSES))
        for name, count in streams.items()
        for index in range(PROCESSES)
    ]
    some = [(name, share) for name, share in shares if share]
    watching = asyncio.create_task(watch(process, whole))
    spawn = multiprocessing.get_context("spawn")
    together = (spawn.Barrier(len(some)),)
    with ProcessPoolExecutor(len(some), spawn, wait_at, together) as processes:
        asking = [
            loop.run_in_executor(processes, in_a_process, *one, tokens, seconds) for one in some
        ]
        loads = await asyncio.gather(*asking)
    watching.cancel()
    return add(loads, whole)


def late(times: Sequence[float], share: float) -> float:
    """A quantile."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else 0.0


def say(console: Console, name: str, load: Load, saturation: float) -> None:
    """One load in words."""
    goodput = load.tokens_per_second
    console.print(f"{name}: {goodput:.0f} tokens/s whole, {goodput / saturation:.2f} of saturation")
    if load.refusals:
        middle, last = late(load.refusals, 0.5) * 1e3, late(load.refusals, 0.99) * 1e3
        console.print(f"  {len(load.refusals)} refusals, median {middle:.0f} ms, p99 {last:.0f} ms")
        own = late(load.late, 0.99) * 1e3
        console.print(f"  the asking processes' own loops were late by {own:.0f} ms at the p99")
    for client in sorted(set(load.served) | set(load.refused)):
        served, refused = load.served[client], load.refused[client]
        console.print(f"  {client}: {served} served, {refused} refused", highlight=False)
    for error, count in load.others.most_common(4):
        console.print(f"  {count} x {error}", highlight=False, markup=False)
    sizes = [size for _, size in load.memory]
    console.print(f"  orchestrator: {sizes[0]:.0f} MiB, then {sizes[-1]:.0f} MiB")


def draw(path: Path, loads: dict[str, Load]) -> None:
    """Tokens per second, and memory, over time."""
    import matplotlib as mpl  # not in the processes that ask

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    for name, load in loads.items():
        began = load.memory[0][0]
        whole = list(itertools.accumulate(count for _, count in load.tokens))
        above.step([when - began for when, _ in load.tokens], whole, where="post", label=name)
        below.plot([when - began for when, _ in load.memory], [size for _, size in load.memory])
    above.set_ylabel("tokens of whole streams, in all")
    above.legend()
    below.set_ylabel("orchestrator, MiB")
    below.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


async def run(options: argparse.Namespace) -> None:
    """Both loads."""
    console, tokens = Console(), options.tokens
    flags = [
        f"--max-streams={options.streams}",
        f"--max-queued={options.streams}",
        "--host=::",
        "--plaintext",
    ]
    async with deployed(TARGET, DRAFT, orchestrator_flags=flags) as servers:
        process = servers.orchestrator
        await under({"greedy": 4}, tokens, 5.0, process)
        best = await under({"greedy": options.streams}, tokens, options.seconds, process)
        saturation = best.tokens_per_second
        say(console, "saturation", best, saturation)
        many = {"greedy": options.streams * 10 - 2, "polite": 2}
        load = await under(many, tokens, options.seconds, process)
        say(console, "ten times as many", load, saturation)
    draw(options.plot, {"saturation": best, "ten times as many": load})


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--plot", type=Path, default=Path("overload.png"))
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
