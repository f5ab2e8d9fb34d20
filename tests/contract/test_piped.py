"""Commands whose output goes into a pipe: the result alone on it, progress on standard error."""

import asyncio
import json
import os
import pty
import socket

from tests import servers
from tests.contract.test_command import COMMAND, run

SIMULATE = ("simulate", "--acceptance=0.5", "--tokens=100", "--json")
BENCH = (
    *("bench", "--target=simulated:step_ms=1", "--draft=simulated:step_ms=1", "--kinds=code"),
    *("--max-tokens=4", "--no-transformers", "--drafters=model"),
)


async def test_progress_is_plain_lines_on_standard_error() -> None:
    status, out, err = await run(*SIMULATE)
    assert status == 0
    assert json.loads(out)[0]["acceptance"] == 0.5
    assert err.splitlines() == ["simulating 0/11", "simulating 11/11"]


async def test_on_a_terminal_it_is_bars_and_the_result_is_still_alone() -> None:
    ours, theirs = pty.openpty()
    status, out, _ = await run(*SIMULATE, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert status == 0
    assert json.loads(out)[0]["acceptance"] == 0.5
    assert "\x1b" in shown
    assert "simulating" in shown


def port_below(limit: int) -> int:
    """One that is free now, among those that a command takes as its first."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            if taken.getsockname()[1] < limit:
                return int(taken.getsockname()[1])


async def test_bench_does_so_too() -> None:
    status, out, err = await run(*BENCH, f"--port={port_below(60_000)}")
    assert status == 0
    assert b"\x1b" not in out
    assert b"measuring" not in out
    lines = err.splitlines()
    assert lines[:4] == ["loading models", "warming up 0/2", "warming up 2/2", "measuring 0/16"]
    assert lines[-1].endswith(" 16/16")


async def test_top_ends_well_when_its_reader_has_seen_enough() -> None:
    async with servers.orchestrator_alone() as client:
        reading, writing = os.pipe()
        top = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("top", f"--address={client.address}", "--interval=0.1"),
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 7) == b"Streams"
        os.close(reading)
        _, err = await top.communicate()
    assert (top.returncode, err) == (0, b"")
