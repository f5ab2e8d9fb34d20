"""A command that starts servers leaves none behind, however early or late it is ended."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from paceline.client import Client
from paceline.errors import Unavailable
from tests.processes import children_that_run
from tests.servers import WAIT_SECONDS, eventually

SERVERS = {"target_server", "draft_server", "orchestrator"}


@pytest.fixture(autouse=True)
def signals_end() -> Iterator[None]:
    """Under nohup, or in a shell's background, some do not, and the command would inherit that."""
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def bench(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A long one, of simulated models."""
    flags = ["--target=simulated:step_ms=50", "--draft=simulated:step_ms=1", "--drafters=model"]
    command = [sys.executable, "-c", "from paceline_tools.cli.app import main; main()", "bench"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, *flags, f"--port={port}", "--no-transformers"],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def servers_of(command: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """By the module that each runs."""
    parent = psutil.Process(command.pid)
    return {module: child for module in SERVERS for child in children_that_run(module, parent)}


async def ended(
    tmp_path: Path, port: int, number: signal.Signals, begun: Callable[[], Awaitable[bool]]
) -> tuple[int, list[psutil.Process]]:
    """The command's status, and servers that outlive it, ended by a signal once it has begun."""
    command = bench(tmp_path, port)
    servers: dict[str, psutil.Process] = {}

    async def all_run() -> bool:
        assert command.poll() is None, (tmp_path / "log").read_text()
        servers.update(servers_of(command))
        return servers.keys() == SERVERS and await begun()

    try:
        await eventually(all_run)
        command.send_signal(number)
        status = await asyncio.to_thread(command.wait, WAIT_SECONDS)
        return status, [one for one in servers.values() if one.is_running()]
    finally:
        command.kill()
        command.wait()
        for server in servers.values():
            if server.is_running():
                server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_bench_that_is_ended_stops_its_servers_first(
    tmp_path: Path, port: int, number: signal.Signals
) -> None:
    async def answers() -> bool:
        async with Client(f"127.0.0.1:{port}", retries=0) as client:
            try:
                return any(model.drafts for model in await client.models())
            except Unavailable:
                return False

    assert await ended(tmp_path, port, number, answers) == (128 + number, [])


async def test_so_it_does_while_they_load(tmp_path: Path, port: int) -> None:
    async def at_once() -> bool:
        return True

    assert await ended(tmp_path, port, signal.SIGTERM, at_once) == (128 + signal.SIGTERM, [])
