"""Whether an orchestrator grows with the calls it has served.

python -m benchmarks.memory: short calls with prompts of words never seen before, every second one
cancelled half way, every tenth on a connection of its own; after each thousand the orchestrator's
resident memory.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Iterator

from rich.console import Console

from benchmarks.simulated import Deployment, deployed
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest

TARGET = "simulated:step_ms=0.2,token_ms=0.001"
DRAFT = "simulated:step_ms=0.1,acceptance=0.8"
ROOM = ("--kv-tokens=100000",)
"""Of draft and target: they soon forget what has ended, and look through little of it."""
EVERY = 1_000
"""Calls between two figures."""
CONNECTION_CALLS = 10
"""One call of so many opens a connection."""


async def call(client: Client, number: int, tokens: int) -> None:
    """One short output."""
    prompt = f"{number:x} {number:o} {number:b}"
    request = GenerateRequest(prompt, max_tokens=tokens, ignore_eos=True, seed=number)
    async for _ in client.generate(request):
        if number % 2:
            break


async def caller(servers: Deployment, numbers: Iterator[int], tokens: int) -> None:
    """Make calls one after another."""
    for number in numbers:
        async with contextlib.AsyncExitStack() as stack:
            client = servers.client
            if number % CONNECTION_CALLS == 0:
                client = await stack.enter_async_context(Client(client.address))
            await call(client, number, tokens)


async def run(options: argparse.Namespace) -> None:
    """Print a figure for every thousand calls."""
    console = Console()
    async with deployed(TARGET, DRAFT, room=ROOM) as servers:
        for done in range(0, options.calls, EVERY):
            numbers = iter(range(done, done + EVERY))
            async with asyncio.TaskGroup() as tasks:
                for _ in range(options.streams):
                    tasks.create_task(caller(servers, numbers, options.tokens))
            resident = servers.orchestrator.memory_info().rss / 2**20
            console.print(f"{done + EVERY:>7} calls {resident:8.1f} MiB", highlight=False)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
