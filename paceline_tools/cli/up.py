"""paceline up: draft, target and orchestrator on this machine."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from pydantic import Field
from rich.console import Console

from draft_server.drafters.registry import DEFAULT, DRAFTERS, SUMMARY, DrafterName
from orchestrator.settings import DRAFT_LENGTH, MOST_DRAFT_LENGTH
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.settings import (
    DEFAULT_LOG_LEVEL,
    HEALTH_PORTS,
    METRICS_PORTS,
    ORCHESTRATOR_PORT,
    LogLevel,
)
from paceline_tools.cli.options import ModelOptions
from paceline_tools.local_servers import Servers, answers, running
from paceline_tools.server_commands import draft_command, orchestrator_command, target_command
from paceline_tools.terminal import console


class Up(ModelOptions):
    """Run draft, target and orchestrator on this machine until Ctrl-C."""

    target: str = Field(
        DEFAULT_TARGET,
        description="Target model: a pulled name, a local folder, a .gguf file or a hub id.",
    )
    draft: str = Field(DEFAULT_DRAFT, description="Draft model, likewise; none: the target alone.")
    drafter: DrafterName = Field(DEFAULT, description=f"What drafts. {SUMMARY}.")
    draft_weights: Literal["bf16", "int8", "int4"] = Field(
        "int4", description="Weights of the draft: as they are, or in 8 or 4 bits."
    )
    draft_length: int = Field(
        DRAFT_LENGTH,
        ge=0,
        le=MOST_DRAFT_LENGTH,
        description="Draft tokens in a round when speculation is forced; 0: the target alone.",
    )
    port: int = Field(
        ORCHESTRATOR_PORT,
        ge=1,
        le=65000,
        description=f"Port of the orchestrator; health and metrics are {HEALTH_PORTS} and "
        f"{METRICS_PORTS} above it.",
    )
    log_level: LogLevel = Field(DEFAULT_LOG_LEVEL, description="Least level that is logged.")

    def cli_cmd(self) -> None:
        """Run the command."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        output = console(stderr=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        starting = asyncio.create_task(self._serve(output, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting

    async def _serve(self, output: Console, stop: asyncio.Event) -> None:
        async with up_running(self, output, show_logs=True) as servers:
            output.print(f"[bold]ready[/] at localhost:{self.port}; Ctrl-C stops", highlight=False)
            await servers.died()


@contextlib.asynccontextmanager
async def up_running(up: Up, console: Console, *, show_logs: bool) -> AsyncIterator[Servers]:
    """The servers, ready; stopped when the context is left. Raises as running does."""
    with tempfile.TemporaryDirectory(prefix="paceline-") as sockets:
        commands = _commands(up, Path(sockets))

        async def ready() -> None:
            await answers(up.port, drafts=int(_drafts(up)))

        async with running(commands, ready, console, show_logs=show_logs) as servers:
            yield servers


def _commands(up: Up, sockets: Path) -> dict[str, list[str]]:
    """Arguments of each server; draft and target listen on unix sockets."""

    def common(offset: int) -> list[str]:
        return [
            f"--health-port={up.port + HEALTH_PORTS + offset}",
            f"--metrics-port={up.port + METRICS_PORTS + offset}",
            "--host=127.0.0.1",
            "--drain-seconds=5",
            f"--log-level={up.log_level}",
        ]

    numbers = [f"--threads={up.threads}", f"--dtype={up.dtype}"]
    target, draft = sockets / "target", sockets / "draft" if _drafts(up) else None
    commands = {"target": target_command(up.target, target, [*numbers, *common(1)])}
    if draft is not None:
        flags = [*numbers, f"--weights={up.draft_weights}", *common(2)]
        commands["draft"] = draft_command(up.draft, up.drafter, draft, flags)
    commands["orchestrator"] = orchestrator_command(
        up.port, target, draft, up.draft_length, common(0)
    )
    return commands


def _drafts(up: Up) -> bool:
    return up.draft_length > 0 and (up.draft != "none" or not DRAFTERS[up.drafter].needs_model)
