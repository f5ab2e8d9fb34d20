"""Servers that have served many calls hold what they held before."""

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from draft_server import prompt_lookup
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc.event_loop import EventLoop
from tests import servers

TARGET, DRAFT = "simulated:step_ms=0.1,token_ms=0.001", "simulated:step_ms=0.1"
CALLS = 300
REMEMBERED = 8
"""Outputs that a draft looks up in here."""


async def serve(client: Client, calls: int) -> None:
    """Short calls, on two connections, every second one cancelled half way, no prompt twice."""
    async with Client(client.address) as other:
        for number in range(calls):
            prompt = f"{calls} {number}"  # too short for its KV to be kept
            request = GenerateRequest(prompt, n=1 + number % 2, max_tokens=3, ignore_eos=True)
            async for _ in (client, other)[number // 2 % 2].generate(request):
                if number % 2:
                    break


def held() -> "Counter[type]":
    """Objects by type, once what nobody holds is gone."""
    gc.collect()
    return Counter(type(thing) for thing in gc.get_objects())


async def nothing_is_left_behind() -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft(DRAFT, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        await serve(client, CALLS // 2)
        await servers.nothing_is_left(target, draft)
        before, blocks = held(), sys.getallocatedblocks()
        await serve(client, CALLS)
        await servers.nothing_is_left(target, draft)

        async def as_before() -> bool:
            """Fewer than one object, and one block, are left of two calls."""
            grown = (held() - before).total()
            return max(grown, sys.getallocatedblocks() - blocks) < CALLS // 2

        await servers.eventually(as_before)


async def drafted(client: Client, first: int, calls: int) -> None:
    """Outputs that a draft helps with, no prompt twice, four at a time."""

    async def one(number: int) -> None:
        request = GenerateRequest(
            f"{number} {number * number}",
            max_tokens=100,
            ignore_eos=True,
            seed=number,
            speculation=Speculation.FORCE,
        )
        await client.generate(request).result()

    for number in range(first, first + calls, 4):
        await asyncio.gather(*(one(number + index) for index in range(4)))


async def caches_fill_and_nothing_else() -> None:
    """Small KV, and as many outputs to look up in as are remembered, are full first."""
    room: dict[str, Any] = {"kv_tokens": 4608}
    async with (
        servers.target(TARGET, **room) as target,
        servers.draft(DRAFT, drafter="hybrid", **room) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        await drafted(client, 0, 3 * REMEMBERED)
        await servers.nothing_is_left(target, draft)
        held()
        blocks = sys.getallocatedblocks()
        await drafted(client, 3 * REMEMBERED, CALLS // 6)
        await servers.nothing_is_left(target, draft)

        async def as_before() -> bool:
            """Fewer than fifty blocks are left of a call of a hundred tokens."""
            held()
            return sys.getallocatedblocks() - blocks < 50 * CALLS // 6

        await servers.eventually(as_before)


@pytest.fixture
def aside() -> Iterator[None]:
    """What is there before stays out of the counts."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_calls_leave_nothing_behind_in_any_server(aside: None) -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:  # asyncio's own keeps ended timers
        runner.run(nothing_is_left_behind())


@pytest.mark.slow  # its caches fill with thousands of tokens
def test_a_draft_remembers_so_much_and_no_more(
    aside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_lookup, "RECENT_OUTPUTS", REMEMBERED)
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(caches_fill_and_nothing_else())
