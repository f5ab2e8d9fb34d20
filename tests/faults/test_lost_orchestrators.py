"""Orchestrators hold nothing that a client cannot restore: killed, terminated, restarted."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.faulty_wire import faulty
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from tests.processes import Process, logged, start, tokens_with
from tests.servers import eventually

REQUEST = GenerateRequest("nothing is lost", seed=3, max_tokens=300, ignore_eos=True)
MODEL = "--model=simulated:step_ms=10"


def orchestrator(folder: Path, name: str, target: Process) -> Process:
    """One that would let running streams go on for ten minutes."""
    flags = f"--target={target.address}", "--draft=", "--drain-seconds=600"
    return start(folder, name, "orchestrator", *flags)


@asynccontextmanager
async def behind_one_target(
    folder: Path, count: int
) -> AsyncIterator[tuple[Process, list[Process]]]:
    """So many orchestrators, ready; whatever is in the list in the end is ended."""
    target = start(folder, "target", "target_server", MODEL)
    some = [orchestrator(folder, f"orchestrator-{number}", target) for number in range(count)]
    try:
        for one in some:
            await eventually(lambda one=one: logged(one, '"ready"'))  # type: ignore[misc]
        yield target, some
    finally:
        for process in (target, *some):
            process.popen.kill()
            process.popen.wait()


async def test_an_orchestrator_that_terminates_hands_its_streams_over_and_ends(
    tmp_path: Path,
) -> None:
    async with (
        behind_one_target(tmp_path, 2) as (_, some),
        faulty(some[0].address) as near,
        faulty(some[1].address) as far,
        Client(f"{near.address},{far.address}") as client,
    ):
        expected = (await client.generate(REQUEST).result()).token_ids
        others = [asyncio.create_task(tokens_with(client, REQUEST)) for _ in range(3)]
        last = tokens_with(client, REQUEST, lambda: some[0].signal(signal.SIGTERM))
        streams = [*others, asyncio.create_task(last)]
        assert await asyncio.to_thread(some[0].popen.wait, 60) == 0
        for tokens in await asyncio.gather(*streams):
            assert tokens == expected
        assert '"outcome": "cancelled"' in some[0].lines()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with behind_one_target(tmp_path, 1) as (_, [one]), Client(one.address, retries=0) as of:
        running = asyncio.create_task(tokens_with(of, REQUEST, lambda: one.signal(signal.SIGTERM)))
        await eventually(lambda: logged(one, '"draining"'))
        one.signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.popen.wait, 60) == 0
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_streams_go_on_at_the_only_orchestrator_once_it_is_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with behind_one_target(tmp_path, 1) as (target, some):
        client = Client(some[0].address, retries=1)
        expected = (await client.generate(REQUEST).result()).token_ids

        def replace() -> None:
            some[0].signal(number)
            if number is signal.SIGTERM:  # one alone would let the stream go on
                while '"draining"' not in some[0].lines():
                    time.sleep(0.01)
                some[0].signal(number)
            some[0].popen.wait()
            some[0] = orchestrator(tmp_path, "orchestrator-0", target)

        assert await tokens_with(client, REQUEST, replace) == expected
        await client.close()
