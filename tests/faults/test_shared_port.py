"""Several orchestrators behind one port: who shares it, and streams when one of them goes."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.spread import one_at_each
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from paceline_tools.local_servers import has_servers
from tests.processes import Process, logged, start, tokens_with
from tests.servers import eventually

REQUEST = GenerateRequest("one of two", seed=3, max_tokens=800, ignore_eos=True)
OTHERS = 4
"""Streams beside the one that the fault is timed by."""


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """A port that nobody else can take, and that who shares ports can; nothing listens yet."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def orchestrator(folder: Path, name: str, port: int, *flags: str) -> Process:
    """One that would let running streams go on for ten minutes."""
    servers = f"--target=unix:{folder}/target.sock", f"--draft=unix:{folder}/draft.sock"
    return start(folder, name, "orchestrator", *servers, "--drain-seconds=600", *flags, port=port)


@asynccontextmanager
async def two_behind(
    folder: Path, port: int
) -> AsyncIterator[tuple[list[Process], Mapping[int, Client]]]:
    """Two orchestrators, ready, and a client of each, by its process."""
    running = [
        start(folder, "target", "target_server", "--model=simulated:step_ms=10"),
        start(folder, "draft", "draft_server", "--model=simulated:step_ms=1,acceptance=0.8"),
    ]
    some = [orchestrator(folder, f"some-{one}", port, "--share-port") for one in range(2)]
    try:
        async with one_at_each(port, [one.popen.pid for one in some]) as clients:
            for client in clients.values():
                await has_servers(client, drafts=1)
            yield some, {process.pid: client for process, client in clients.items()}
    finally:
        for process in (*running, *some):
            process.popen.kill()
            process.popen.wait()


def ended(process: Process) -> int:
    """Streams that ended there with all of their tokens."""
    lines = process.lines().splitlines()
    return sum('"stream finished"' in line and '"outcome": "length"' in line for line in lines)


async def test_connections_are_spread_over_both(tmp_path: Path) -> None:
    with kept_port() as port:
        async with two_behind(tmp_path, port) as (some, clients):
            found = [
                (await clients[one.popen.pid].generate(REQUEST).result()).token_ids for one in some
            ]
            assert found[0] == found[1]
            for one in some:
                await eventually(lambda one=one: logged(one, '"stream finished"'))  # type: ignore[misc]
            assert [ended(one) for one in some] == [1, 1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_streams_of_one_that_is_gone_go_on_at_the_other(
    tmp_path: Path, number: signal.Signals
) -> None:
    with kept_port() as port:
        async with two_behind(tmp_path, port) as (some, clients):
            gone, left = some
            its, others = clients[gone.popen.pid], clients[left.popen.pid]
            seeds = range(OTHERS + 1)
            alone = (tokens_with(others, replace(REQUEST, seed=seed)) for seed in seeds)
            expected = await asyncio.gather(*alone)
            streams = [
                asyncio.create_task(tokens_with(client, replace(REQUEST, seed=seed)))
                for seed, client in zip(seeds[1:], (its, its, others, others), strict=True)
            ]
            timed = await tokens_with(its, replace(REQUEST, seed=0), lambda: gone.signal(number))
            status = await asyncio.to_thread(gone.popen.wait, 60)
            assert status == (0 if number is signal.SIGTERM else -signal.SIGKILL)
            assert [timed, *await asyncio.gather(*streams)] == expected

            async def all_ended() -> bool:
                return ended(gone) + ended(left) == 2 * len(seeds)

            await eventually(all_ended)
            if number is signal.SIGTERM:
                assert '"outcome": "cancelled"' in gone.lines()  # handed over
            async with Client(f"127.0.0.1:{port}", retries=0) as new:
                assert await tokens_with(new, replace(REQUEST, seed=0)) == expected[0]


def refusal(process: Process) -> str:
    """What it says, in the one line of a server that does not start."""
    assert process.popen.wait(60) == 1
    [line] = process.lines().splitlines()
    return line


async def test_who_does_not_share_is_refused_and_who_shares_with_that_too(tmp_path: Path) -> None:
    with kept_port() as port:
        first = orchestrator(tmp_path, "first", port, "--share-port")
        await eventually(lambda: logged(first, '"listening"'))
    where = f"cannot listen on 127.0.0.1:{port}: process"
    what = "end it, or choose another --port (PACELINE_ORCHESTRATOR_PORT)"
    try:
        alone = orchestrator(tmp_path, "alone", port)
        said = refusal(alone)
        assert f"{where} {first.popen.pid} (" in said
        assert f" does; {what}" in said
        first.popen.kill()
        first.popen.wait()
        alone = orchestrator(tmp_path, "alone", port)
        await eventually(lambda: logged(alone, '"listening"'))
        said = refusal(orchestrator(tmp_path, "second", port, "--share-port"))
        assert f"{where} {alone.popen.pid} (" in said
        assert f" does, and does not share it; {what}" in said
    finally:
        for process in (first, alone):
            process.popen.kill()
            process.popen.wait()
