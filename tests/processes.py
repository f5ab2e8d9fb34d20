"""Real server processes, to be killed for real."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from paceline_tools.local_servers import GRPC_EXPERIMENTS
from tests.servers import eventually


@dataclass
class Process:
    """A server on a unix socket, or at a port."""

    address: str
    popen: subprocess.Popen[bytes]
    log: Path

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.popen.pid, number)

    def lines(self) -> str:
        return self.log.read_text()


def start(folder: Path, name: str, module: str, *flags: str, port: int | None = None) -> Process:
    """Start `python -m module` with a socket and a log in `folder`; port: in the socket's place."""
    socket, log = folder / f"{name}.sock", folder / f"{name}.log"
    where = f"--socket={socket}" if port is None else f"--port={port}"
    command = [sys.executable, "-m", module, where, "--host=127.0.0.1"]
    command += ["--health-port=0", "--metrics-port=0", "--drain-seconds=20", *flags]
    with log.open("wb") as output:
        env = {"GRPC_EXPERIMENTS": GRPC_EXPERIMENTS, **os.environ}
        popen = subprocess.Popen(command, stderr=output, start_new_session=True, env=env)
    address = f"unix:{socket}" if port is None else f"127.0.0.1:{port}"
    return Process(address, popen, log)


def start_engine(folder: Path, name: str, module: str, model: Path) -> Process:
    """Start a draft or target server with a tiny model."""
    flags = ["--model-name=tiny", "--dtype=float64", "--threads=1", "--log-level=debug"]
    return start(folder, name, module, f"--model={model}", *flags)


def children_that_run(module: str, parent: psutil.Process) -> list[psutil.Process]:
    """The live ones below it: of one that has just ended, the system tells no command."""
    found = []
    for child in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too
            if module in child.cmdline():
                found.append(child)
    return found


@asynccontextmanager
async def running(
    folder: Path, targets: list[Process], drafts: list[Process], *flags: str
) -> AsyncIterator[tuple[Client, Process]]:
    """An orchestrator over them, ready; ends them all."""
    orchestrator = start(
        folder,
        "orchestrator",
        "orchestrator",
        f"--target={','.join(target.address for target in targets)}",
        f"--draft={','.join(draft.address for draft in drafts)}",
        *flags,
    )
    processes = [*targets, *drafts, orchestrator]
    try:
        async with Client(orchestrator.address, retries=0) as client:
            await eventually(lambda: found(client, processes, len(drafts)))
            for target in targets:
                await eventually(partial(logged, target, '"ready"'))
            yield client, orchestrator
    finally:
        for process in processes:
            process.popen.kill()
        for process in processes:
            process.popen.wait()


async def found(client: Client, processes: list[Process], drafts: int) -> bool:
    for process in processes:
        assert process.popen.poll() is None, process.lines()
    try:
        return any(model.drafts == drafts for model in await client.models())
    except Exception:
        await asyncio.sleep(0.05)
        return False


async def logged(process: Process, text: str) -> bool:
    return text in process.lines()


async def tokens_with(
    client: Client, request: GenerateRequest, fault: Callable[[], object] = lambda: None
) -> tuple[int, ...]:
    """Tokens of a request, with a fault behind the tenth."""
    tokens: list[int] = []
    async for delta in client.generate(request):
        assert delta.token_index == len(tokens)
        before = len(tokens)
        tokens += [token.id for token in delta.tokens]
        if before < 10 <= len(tokens):
            fault()
    return tuple(tokens)
