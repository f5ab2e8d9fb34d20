"""KV over real servers: what never fits is said once, what fits somewhere is found there."""

import asyncio
from pathlib import Path

import pytest

from paceline.client import Client
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.status import Role
from tests import servers
from tests.contract.test_dead_engine import kill
from tests.tiny_models import tiny_model

SMALL = {"kv_tokens": 512, "kv_reserve_tokens": 0}
LARGE = {"kv_tokens": 1024, "kv_reserve_tokens": 0}
REFUSES = {"max_waiting": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def request(prompt: int, max_tokens: int | None, **more: int) -> GenerateRequest:
    fields = {"max_tokens": max_tokens, "ignore_eos": True, "seed": 1, **more}
    return GenerateRequest((7,) * prompt, **fields)  # type: ignore[arg-type]


async def both_known(client: Client) -> None:
    async def known() -> bool:
        targets = (await client.status()).of(Role.TARGET)
        return len(targets) == 2 and all(one.reachable for one in targets)

    await servers.eventually(known)
    await servers.has_drafts(client, 0)


async def test_a_target_that_could_hold_a_stream_is_found_among_those_that_could_not(
    folder: Path,
) -> None:
    async with (
        servers.target(folder, **SMALL) as small,
        servers.target(folder, **LARGE) as large,
        servers.orchestrator_alone([small.address, large.address]) as client,
    ):
        await both_known(client)
        for _ in range(2):
            assert len((await client.generate(request(500, 100)).result()).token_ids) == 100
            await servers.nothing_is_left(small, large)
        assert len((await client.generate(request(10, 10, n=16)).result()).choices) == 16
        await servers.nothing_is_left(small, large)


async def test_one_that_is_full_leaves_a_stream_to_another(folder: Path) -> None:
    async with (
        servers.target(folder, **SMALL, **REFUSES) as small,
        servers.target(folder, **LARGE) as large,
        servers.orchestrator_alone([small.address, large.address]) as client,
    ):
        await both_known(client)
        long = [client.generate(request(10, 400)) for _ in range(3)]
        streams = [aiter(one) for one in long]
        for stream in streams:
            await anext(stream)
        waits = asyncio.create_task(client.generate(request(10, 1)).result())

        async def waiting() -> bool:
            return large.started.engine.load.waiting == 1

        await servers.eventually(waiting)
        assert small.started.engine.load.waiting == 0
        tokens = [[len(delta.tokens) async for delta in stream] for stream in streams]
        assert all(sum(counts) > 300 for counts in tokens)
        assert len((await waits).token_ids) == 1


async def test_where_all_are_full_and_none_may_wait_a_stream_is_refused(folder: Path) -> None:
    async with (
        servers.target(folder, **SMALL, **REFUSES) as one,
        servers.target(folder, **SMALL, **REFUSES) as two,
        servers.orchestrator_alone([one.address, two.address]) as client,
    ):
        await both_known(client)
        long = [client.generate(request(10, 400)) for _ in range(2)]
        streams = [aiter(one) for one in long]
        for stream in streams:
            await anext(stream)
        with pytest.raises(ResourceExhausted, match="KV is full"):
            await client.generate(request(10, 1)).result()


async def test_a_stream_whose_target_dies_waits_for_room_on_another(folder: Path) -> None:
    async with (
        servers.target(folder, **SMALL) as one,
        servers.target(folder, **SMALL) as two,
        servers.orchestrator_alone([one.address, two.address]) as client,
    ):
        await both_known(client)
        with pytest.raises(InvalidArgument, match="prompt's length is 600; it must be under 512"):
            await client.generate(request(600, None)).result()
        expected = (await client.generate(request(10, 400)).result()).token_ids
        running = [asyncio.create_task(collect(client, 400)) for _ in range(2)]

        async def both_run() -> bool:
            return all(each.started.engine.steps > 30 for each in (one, two))

        await servers.eventually(both_run)
        kill(one.started)
        for found in await asyncio.gather(*running):
            assert found == expected


async def collect(client: Client, tokens: int) -> tuple[int, ...]:
    return (await client.generate(request(10, tokens)).result()).token_ids
