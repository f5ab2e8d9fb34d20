"""Ctrl-C in a conversation, as a terminal sends it."""

import asyncio
import contextlib
import os
import pty
import re
from collections.abc import AsyncIterator

import pytest

from paceline.client import Client
from tests import servers
from tests.contract.test_command import COMMAND
from tests.terminals import ON_TERMINAL

SECONDS = 20.0
PROMPT = re.compile(rb">(\x1b\[0m)? ")
TEXT = re.compile(rb"[a-z ]{5}")


class Terminal:
    """A command on a terminal of its own: what it shows is waited for, piece by piece."""

    def __init__(self, terminal: int, process: asyncio.subprocess.Process) -> None:
        self._terminal = terminal
        self.process = process
        self.shown = b""

    async def shows(self, pattern: bytes | re.Pattern[bytes]) -> None:
        """Wait for it, behind what was waited for before."""
        while not (found := re.search(pattern, self.shown)):
            with contextlib.suppress(OSError):  # closed: it will not come
                read = asyncio.to_thread(os.read, self._terminal, 65536)
                self.shown += await asyncio.wait_for(read, SECONDS)
        self.shown = self.shown[found.end() :]

    def types(self, keys: bytes) -> None:
        os.write(self._terminal, keys)


@pytest.fixture
async def orchestrator() -> AsyncIterator[tuple[Client, servers.Server]]:
    async with (
        servers.target("simulated:step_ms=10") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        yield client, target


@pytest.fixture
async def chat(orchestrator: tuple[Client, servers.Server]) -> AsyncIterator[Terminal]:
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *ON_TERMINAL,
        *COMMAND,
        *("chat", f"--address={orchestrator[0].address}", "--max-tokens=20000"),
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(its)
    terminal = Terminal(ours, process)
    await terminal.shows(b"ends it")
    yield terminal
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    os.close(ours)


@pytest.mark.parametrize("leave", [b"\x03", b"\x04", b"/exit\r"])
async def test_ctrl_c_stops_an_answer_and_keeps_the_conversation(
    chat: Terminal, orchestrator: tuple[Client, servers.Server], leave: bytes
) -> None:
    client, target = orchestrator

    async def running(count: int) -> bool:
        return (await client.status()).totals.running == count

    for turn in range(2):
        await chat.shows(PROMPT)
        chat.types(b"hi\r")
        await chat.shows(TEXT)
        await servers.eventually(lambda: running(1))
        chat.types(b"\x03")
        await chat.shows(rb"\(stopped\)")
        await servers.eventually(lambda: running(0))
        await servers.nothing_is_left(target)
        assert (await client.status()).totals.streams == turn + 1
    await chat.shows(PROMPT)
    chat.types(leave)
    assert await asyncio.wait_for(chat.process.wait(), SECONDS) == 0
    with contextlib.suppress(OSError):
        chat.shown += await asyncio.to_thread(os.read, chat._terminal, 65536)
    assert b"Traceback" not in chat.shown
