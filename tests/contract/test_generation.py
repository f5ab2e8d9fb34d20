"""A generation is read once, and left as cleanly as it is read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from paceline.client import Client, SyncClient
from paceline.errors import Cancelled, FailedPrecondition
from tests import servers

ONCE = (
    "^a generation is read once, and this one was, or is being read: "
    r"ask generate again, or keep what result\(\) gave$"
)


@pytest.fixture
async def running() -> AsyncIterator[tuple[Client, servers.Server]]:
    async with (
        servers.target("simulated:step_ms=2") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        yield client, target


async def test_a_generation_is_read_once(running: tuple[Client, servers.Server]) -> None:
    client, _ = running
    generation = client.generate("x", max_tokens=8, seed=1, ignore_eos=True)
    text = "".join([delta.text async for delta in generation])
    with pytest.raises(FailedPrecondition, match=ONCE):
        _ = [delta async for delta in generation]
    assert (await generation.result()).text == text
    assert (await generation.result()).finished == generation.finished


async def test_nor_by_two_at_once_or_after_it_was_left(
    running: tuple[Client, servers.Server],
) -> None:
    client, _ = running
    generation = client.generate("x", max_tokens=4000, ignore_eos=True)
    async with contextlib.aclosing(aiter(generation)) as deltas:
        await anext(deltas)
        with pytest.raises(FailedPrecondition, match=ONCE):
            await anext(aiter(generation))
    for again in (generation.result(), anext(aiter(generation))):
        with pytest.raises(FailedPrecondition, match=ONCE):
            await again


async def test_without_async_it_is_the_same(running: tuple[Client, servers.Server]) -> None:
    client, target = running

    def sync() -> None:
        with SyncClient(client.address) as other:
            generation = other.generate("x", max_tokens=8, seed=1, ignore_eos=True)
            text = "".join(delta.text for delta in generation)
            with pytest.raises(FailedPrecondition, match=ONCE):
                list(generation)
            assert generation.result().text == text
            with other.generate("x", max_tokens=4000, ignore_eos=True) as left:
                for _ in left:
                    break
            with pytest.raises(FailedPrecondition, match=ONCE):
                left.result()

    await asyncio.to_thread(sync)
    await servers.nothing_is_left(target)


async def test_leaving_the_block_of_a_generation_cancels_it(
    running: tuple[Client, servers.Server],
) -> None:
    client, target = running
    async with client.generate("x", max_tokens=4000, ignore_eos=True) as generation:
        deltas = aiter(generation)  # kept: it is not the collector that ends it
        await anext(deltas)
    await servers.nothing_is_left(target)
    with pytest.raises(Cancelled):
        await anext(deltas)


async def test_what_was_cancelled_does_not_begin() -> None:
    generation = Client("unix:/nowhere").generate("x")
    generation.cancel()
    with pytest.raises(Cancelled, match=r"^the stream was cancelled, or its client closed$"):
        await generation.result()


async def test_what_is_cancelled_between_two_attempts_is_not_tried_again() -> None:
    async with Client("127.0.0.1:1") as client:
        generation = client.generate("x")
        waiting = asyncio.create_task(generation.result())
        await asyncio.sleep(0)
        while generation._backoff._failed == 0:
            await asyncio.sleep(0.001)
        generation.cancel()
        with pytest.raises(Cancelled):
            await asyncio.wait_for(waiting, servers.WAIT_SECONDS)
