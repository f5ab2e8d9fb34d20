"""Servers may start in any order, and end in any order, each with exit status 0."""

import asyncio
import itertools
import signal
from pathlib import Path

import pytest

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from tests.processes import Process, found, start
from tests.servers import eventually

FLAGS = {
    "target": ("target_server", "--model=simulated:step_ms=1"),
    "draft": ("draft_server", "--model=simulated:step_ms=1"),
    "orchestrator": (
        "orchestrator",
        "--target=unix:{0}/target.sock",
        "--draft=unix:{0}/draft.sock",
    ),
}
REQUEST = GenerateRequest(
    "in any order", max_tokens=20, seed=1, ignore_eos=True, speculation=Speculation.FORCE
)


def started(folder: Path, role: str) -> Process:
    return start(folder, role, *(flag.format(folder) for flag in FLAGS[role]))


@pytest.mark.parametrize("order", list(itertools.permutations(FLAGS)), ids="-".join)
async def test_whoever_starts_first_all_find_each_other_and_end_well(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    """The next starts once the one before listens; the first ends first, while others serve."""
    processes: dict[str, Process] = {}
    try:
        for role in order:
            processes[role] = started(tmp_path, role)
            await eventually(lambda role=role: listens(processes[role]))  # type: ignore[misc]
        async with Client(processes["orchestrator"].address, retries=0) as client:
            await eventually(lambda: found(client, list(processes.values()), 1))
            result = await client.generate(REQUEST).result()
            assert result.finished.statistics.accepted > 0
        for role in order:
            processes[role].signal(signal.SIGTERM)
            code = await asyncio.to_thread(processes[role].popen.wait, 60)
            assert code == 0, processes[role].lines()
            assert '"draining"' in processes[role].lines()
    finally:
        for process in processes.values():
            process.popen.kill()
            process.popen.wait()


async def listens(process: Process) -> bool:
    assert process.popen.poll() is None, process.lines()
    await asyncio.sleep(0.02)
    return '"listening"' in process.lines()
