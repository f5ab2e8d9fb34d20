"""Every server of every role is replaced, killed or stopped under streams, one after another."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.chaos import REQUESTS, left_over, request, stream_on
from benchmarks.chaos_report import Seen
from benchmarks.chaos_servers import Fault, Server, servers
from paceline.client import Client
from tests.servers import eventually

TOKENS = 60
STREAMS = 6


@pytest.mark.parametrize("fault", [Fault.TERMINATE, Fault.KILL, Fault.STOP])
async def test_no_stream_breaks_or_differs_whoever_is_gone(fault: Fault, tmp_path: Path) -> None:
    seen = Seen()
    models = "simulated:step_ms=10", "simulated:step_ms=1,acceptance=0.8"
    async with servers(tmp_path, *models, drain_seconds=1) as made:
        addresses = ",".join(one.wire.address for one in made["orchestrator"])
        async with Client(addresses) as client:
            asked = [client.generate(request(number, TOKENS)) for number in range(REQUESTS)]
            alone = await asyncio.gather(*(one.result() for one in asked))
            expected = [one.token_ids for one in alone]
            streams = [
                asyncio.create_task(stream_on(client, first, TOKENS, expected, seen))
                for first in range(STREAMS)
            ]
            for server in (one for some in made.values() for one in some):
                await struck(server, fault, seen)
            seen.ends.set()
            await asyncio.gather(*streams)
        assert await left_over(made) == (0, 0)
    assert not seen.failures
    assert not seen.differing


async def struck(server: Server, fault: Fault, seen: Seen) -> None:
    """It has the fault, is whole again, and streams that began before that have ended since."""
    await server.suffer(fault, 1.0)
    before = seen.streams

    async def all_have_ended() -> bool:
        return seen.streams >= before + STREAMS

    await eventually(all_have_ended)
