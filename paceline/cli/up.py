"""paceline up: draft, target and orchestrator on this machine."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from rich.console import Console
from rich.markup import escape

from paceline.client import Client
from paceline.errors import Unavailable
from paceline.models import DEFAULT_DRAFT, DEFAULT_TARGET

READY_SECONDS = 600.0
"""Loading a model, converting it before perhaps, takes this long at most."""
STOP_SECONDS = 10.0
"""A process that has not ended this long after SIGTERM is killed."""
LINE_BYTES = 1024 * 1024
_COLORS = {"target": "cyan", "draft": "magenta", "orchestrator": "green"}


class Up(BaseModel):
    """Run draft, target and orchestrator on this machine until Ctrl-C."""

    target: str = Field(
        DEFAULT_TARGET,
        description="Target model: a pulled name, a local folder, a .gguf file or a hub id.",
    )
    draft: str = Field(DEFAULT_DRAFT, description="Draft model, likewise; none: the target alone.")
    drafter: Literal["model", "ngram", "hybrid"] = Field(
        "model", description="What guesses: the draft model, lookup, or both."
    )
    draft_length: int = Field(
        4, ge=0, le=32, description="Draft tokens verified in a round; 0 is the target alone."
    )
    port: int = Field(
        7070,
        ge=1,
        le=65000,
        description="Port of the orchestrator; health and metrics are 100 and 200 above it.",
    )
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        description="Threads of each model; they take turns.",
    )
    dtype: Literal["bfloat16", "float32", "float64"] = Field(
        default="bfloat16", description="Numbers of weights and KV."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    def cli_cmd(self) -> None:
        """Run the command."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        console = Console(stderr=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        starting = asyncio.create_task(self._serve(console, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting

    async def _serve(self, console: Console, stop: asyncio.Event) -> None:
        async with running(self, console, show_logs=True) as servers:
            console.print(f"[bold]ready[/] at localhost:{self.port}; Ctrl-C stops", highlight=False)
            await servers.died()


@dataclass
class Process:
    """One server as a process, its log lines prefixed with its name."""

    name: str
    process: asyncio.subprocess.Process
    console: Console
    show_logs: bool
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    async def follow(self) -> None:
        """Pass its log on until it ends; raises Unavailable saying how it ended."""
        if self.process.stderr is None:
            raise Unavailable(f"the {self.name} has no log")
        async for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip()
            self.last_lines.append(text)
            if self.show_logs:
                color = _COLORS[self.name]
                self.console.print(
                    f"[{color}]{self.name:>12}[/] {escape(text)}", highlight=False, soft_wrap=True
                )
        code = await self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        log = "\n  ".join(self.last_lines)
        raise Unavailable(f"the {self.name} {how}; its last words:\n  {log}")

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after STOP_SECONDS."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@dataclass
class Servers:
    """The processes that run."""

    processes: list[Process]
    followers: list[asyncio.Task[None]]

    async def died(self) -> None:
        """Wait until one of them ends; raises Unavailable saying which and why."""
        done, _ = await asyncio.wait(self.followers, return_when=asyncio.FIRST_COMPLETED)
        for follower in done:
            follower.result()


@contextlib.asynccontextmanager
async def running(up: Up, console: Console, *, show_logs: bool) -> AsyncIterator[Servers]:
    """The servers, ready; stopped when the context is left.

    Raises Unavailable when one of them ends before all are ready.
    """
    with tempfile.TemporaryDirectory(prefix="paceline-") as sockets:
        servers = Servers([], [])
        try:
            for name, arguments in _commands(up, Path(sockets)).items():
                process = await _start(name, arguments)
                servers.processes.append(Process(name, process, console, show_logs))
            servers.followers = [
                asyncio.create_task(process.follow()) for process in servers.processes
            ]
            await _ready(up, servers)
            yield servers
        finally:
            for follower in servers.followers:
                follower.cancel()
            await asyncio.gather(*(process.stop() for process in servers.processes))
            await asyncio.gather(*servers.followers, return_exceptions=True)


def _commands(up: Up, sockets: Path) -> dict[str, list[str]]:
    """Arguments of each server; draft and target listen on unix sockets."""

    def common(offset: int) -> list[str]:
        return [
            f"--health-port={up.port + 100 + offset}",
            f"--metrics-port={up.port + 200 + offset}",
            "--host=127.0.0.1",
            "--drain-seconds=5",
            f"--log-level={up.log_level}",
        ]

    def model(name: str, model: str, offset: int) -> list[str]:
        return [
            *("-m", f"{name}_server", f"--model={model}", f"--socket={sockets / name}"),
            *(f"--threads={up.threads}", f"--dtype={up.dtype}", *common(offset)),
        ]

    commands = {"target": model("target", up.target, 1)}
    drafts = ""
    if _drafts(up):
        arguments = model("draft", "" if up.drafter == "ngram" else up.draft, 2)
        commands["draft"] = [*arguments, f"--drafter={up.drafter}"]
        drafts = f"unix:{sockets / 'draft'}"
    commands["orchestrator"] = [
        *("-m", "orchestrator", f"--port={up.port}", f"--target=unix:{sockets / 'target'}"),
        *(f"--draft={drafts}", f"--draft-length={up.draft_length}", *common(0)),
    ]
    return commands


def _drafts(up: Up) -> bool:
    return up.draft_length > 0 and (up.drafter == "ngram" or up.draft != "none")


async def _start(name: str, arguments: list[str]) -> asyncio.subprocess.Process:
    """Start a server in a session of its own, so that Ctrl-C reaches it through us only."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=LINE_BYTES,
    )


async def _ready(up: Up, servers: Servers) -> None:
    """Wait until the orchestrator has all it needs, or a server has died."""
    died = asyncio.create_task(servers.died())
    ready = asyncio.create_task(_answers(up))
    try:
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.wait({died, ready}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        raise Unavailable(f"the servers were not ready after {READY_SECONDS:g} s") from None
    finally:
        died.cancel()
        ready.cancel()
    if not ready.done():
        await servers.died()


async def _answers(up: Up) -> None:
    async with Client(f"127.0.0.1:{up.port}") as client:
        while True:
            with contextlib.suppress(Unavailable):
                models = await client.models()
                if any(model.drafts >= _drafts(up) for model in models):
                    return
            await asyncio.sleep(0.1)
