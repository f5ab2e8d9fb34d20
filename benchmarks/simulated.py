"""Real servers around simulated models, started for a measurement and stopped after it."""

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.spread import one_at_each
from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.bench.delayed_wire import delayed
from paceline_tools.local_servers import answers, has_servers, running
from paceline_tools.server_commands import (
    UNWATCHED,
    draft_command,
    orchestrator_command,
    target_command,
)

PORT = 7860
ROOM = ("--kv-tokens=8000000", "--max-batched-tokens=2048")
"""Of draft and target: for any load."""


@dataclass(frozen=True)
class Deployment:
    """Orchestrators' processes, with a client of each."""

    clients: Mapping[psutil.Process, Client]
    turn: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def client(self) -> Client:
        """One of them, in turn."""
        return list(self.clients.values())[next(self.turn) % len(self.clients)]

    @property
    def orchestrator(self) -> psutil.Process:
        """The first."""
        return next(iter(self.clients))

    async def generate(self, name: str, tokens: int, speculation: Speculation) -> Result:
        """A greedy output of so many tokens; `name` is its prompt."""
        request = GenerateRequest(
            name,
            sampling=SamplingParams(temperature=0),
            max_tokens=tokens,
            ignore_eos=True,
            seed=1,
            speculation=speculation,
        )
        return await self.client.generate(request).result()

    @property
    def cpu_seconds(self) -> float:
        """What all orchestrators have used, user and system, as getrusage counts it."""
        times = [process.cpu_times() for process in self.clients]
        return sum(one.user + one.system for one in times)


@contextlib.asynccontextmanager
async def deployed(
    target: str,
    draft: str,
    round_trip_seconds: float = 0.0,
    room: Sequence[str] = ROOM,
    orchestrator_flags: Sequence[str] = (),
    port: int = PORT,
    orchestrators: int = 1,
) -> AsyncIterator[Deployment]:
    """A target, a draft and orchestrators. target and draft: names of simulated models.

    port: that all orchestrators share.
    """
    with tempfile.TemporaryDirectory(prefix="paceline-") as folder:
        sockets = Path(folder)
        draft_socket = sockets / ("wire" if round_trip_seconds else "draft")
        commands = {
            "target": target_command(target, sockets / "target", [*UNWATCHED, *room]),
            "draft": draft_command(draft, "model", sockets / "draft", [*UNWATCHED, *room]),
        }
        flags = [*UNWATCHED, *orchestrator_flags, *(["--share-port"] if orchestrators > 1 else [])]
        one = orchestrator_command(port, sockets / "target", draft_socket, 4, flags)
        names = [f"orchestrator {number}" for number in range(1, orchestrators + 1)]
        commands |= dict.fromkeys(names, one)

        async def ready() -> None:
            await answers(port, drafts=1)

        wire = delayed(sockets / "wire", sockets / "draft", round_trip_seconds)
        servers = running(commands, ready)
        async with wire, servers as started:
            pids = {process.name: process.process.pid for process in started.processes}
            async with one_at_each(port, [pids[name] for name in names]) as clients:
                for client in clients.values():
                    await has_servers(client, drafts=1)
                yield Deployment(clients)


def rounds_and_steps(results: Sequence[Result]) -> int:
    """Verdicts of all outputs."""
    found = [choice.finished.statistics for result in results for choice in result.choices]
    return sum(one.rounds + one.target_only_steps for one in found)
