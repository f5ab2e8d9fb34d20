"""Real servers around simulated models, started for a measurement and stopped after it."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.bench.delayed_wire import delayed
from paceline_tools.local_servers import answers, running
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
    """A client of the orchestrator, and the orchestrator's process."""

    client: Client
    orchestrator: psutil.Process

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
        """What the orchestrator has used, user and system, as getrusage counts it."""
        times = self.orchestrator.cpu_times()
        return times.user + times.system


@contextlib.asynccontextmanager
async def deployed(
    target: str,
    draft: str,
    round_trip_seconds: float = 0.0,
    room: Sequence[str] = ROOM,
    orchestrator_flags: Sequence[str] = (),
    port: int = PORT,
) -> AsyncIterator[Deployment]:
    """Three processes. target and draft: names of simulated models. port: of the orchestrator."""
    with tempfile.TemporaryDirectory(prefix="paceline-") as folder:
        sockets = Path(folder)
        draft_socket = sockets / ("wire" if round_trip_seconds else "draft")
        commands = {
            "target": target_command(target, sockets / "target", [*UNWATCHED, *room]),
            "draft": draft_command(draft, "model", sockets / "draft", [*UNWATCHED, *room]),
            "orchestrator": orchestrator_command(
                port, sockets / "target", draft_socket, 4, [*UNWATCHED, *orchestrator_flags]
            ),
        }

        async def ready() -> None:
            await answers(port, drafts=1)

        wire = delayed(sockets / "wire", sockets / "draft", round_trip_seconds)
        servers = running(commands, ready)
        async with wire, servers as started, Client(f"127.0.0.1:{port}") as client:
            pids = {process.name: process.process.pid for process in started.processes}
            yield Deployment(client, psutil.Process(pids["orchestrator"]))


def rounds_and_steps(results: Sequence[Result]) -> int:
    """Verdicts of all outputs."""
    found = [choice.finished.statistics for result in results for choice in result.choices]
    return sum(one.rounds + one.target_only_steps for one in found)
