"""A client that reads nothing holds nothing of the servers' once its output has ended."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from orchestrator.serving import event_buffer
from paceline.client import Client, connections
from paceline.errors import ResourceExhausted
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc.options import channel_options
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import generation_pb2, generation_pb2_grpc
from tests import servers

TOKENS = 2000
OPTIONS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
"""gRPC takes little off the server for a client that does not read, less than so many tokens."""
SHORT = GenerateRequest("b", max_tokens=3, ignore_eos=True)


@pytest.fixture
async def target() -> AsyncIterator[servers.Server]:
    async with servers.target("simulated:step_ms=0") as server:
        yield server


@contextlib.asynccontextmanager
async def asking(address: str) -> AsyncIterator[Any]:
    """A stub on a connection of its own."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield generation_pb2_grpc.GenerationServiceStub(channel)


def asked_for(tokens: int = TOKENS) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(
        prompt=generation_pb2.Prompt(text="a"),
        max_tokens=tokens,
        ignore_eos=True,
        seed=1,
        speculation=generation_pb2.SPECULATION_OFF,
    )


async def rest_of(call: Any) -> list[int]:
    """The ids of what comes until the call ends."""
    return [token.id async for event in call for token in event.delta.tokens]


async def ended(target: servers.Server, client: Client, streams: int) -> None:
    """Wait until so many streams have, and the target holds nothing."""

    async def have_ended() -> bool:
        totals = (await client.status()).totals
        return totals.streams >= streams and not totals.running

    await servers.eventually(have_ended)
    await servers.nothing_is_left(target)


async def test_one_that_is_given_up_gives_its_place_back_and_is_told(
    target: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_buffer, "BUFFER_BYTES", 1000)
    monkeypatch.setattr(event_buffer, "STALLED_SECONDS", 0.05)
    async with (
        servers.orchestrator([target.address], [], max_streams=1) as client,
        asking(client.address) as stub,
    ):
        call = stub.Generate(asked_for(), timeout=60.0)
        await ended(target, client, 1)
        assert len((await client.generate(SHORT).result()).token_ids) == 3
        assert not call.done()
        with pytest.raises(grpc.aio.AioRpcError, match=r"did not read for 0\.05 s") as refused:
            await rest_of(call)
        error = from_rpc_error(refused.value)
        assert isinstance(error, ResourceExhausted)
        assert error.retry_after == event_buffer.RESUME_SECONDS


async def test_one_is_told_long_before_its_buffer_is_full_and_goes_on_once_it_reads(
    target: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through our client, which resumes with what it has: the text is that of who reads at once."""
    asked = GenerateRequest(
        "a", max_tokens=TOKENS, ignore_eos=True, seed=1, speculation=Speculation.OFF
    )
    monkeypatch.setattr(
        connections, "channel_options", lambda *how: [*channel_options(*how), *OPTIONS]
    )
    async with (
        servers.orchestrator([target.address], []) as served,
        Client(served.address) as client,
    ):
        expected = (await client.generate(asked).result()).token_ids
        monkeypatch.setattr(event_buffer, "STALLED_SECONDS", 0.05)
        generation = client.generate(asked, timeout=120.0)
        tokens: list[int] = []
        async for delta in generation:
            if not tokens:
                await ended(target, client, 2)
                monkeypatch.setattr(event_buffer, "STALLED_SECONDS", 60.0)
            tokens += [token.id for token in delta.tokens]
        assert tuple(tokens) == expected
        assert (await client.status()).totals.streams == 3


async def test_one_whose_output_is_whole_gives_its_place_back_and_may_read_it_later(
    target: servers.Server,
) -> None:
    async with (
        servers.orchestrator([target.address], [], max_streams=1) as client,
        asking(client.address) as stub,
    ):
        expected = await rest_of(stub.Generate(asked_for(), timeout=60.0))
        call = stub.Generate(asked_for(), timeout=60.0)
        await ended(target, client, 2)
        assert len((await client.generate(SHORT).result()).token_ids) == 3
        assert await rest_of(call) == expected


async def test_of_many_outputs_that_nobody_reads_the_first_is_given_up(
    target: servers.Server,
) -> None:
    async with (
        servers.orchestrator([target.address], [], max_streams=1) as client,
        asking(client.address) as stub,
    ):
        calls = []
        for count in range(1, 4):
            calls += [stub.Generate(asked_for(), timeout=60.0)]
            await ended(target, client, count)
        first, *later = calls
        why = "did not read its output, and 2 more that nobody reads have ended since"
        with pytest.raises(grpc.aio.AioRpcError, match=why) as refused:
            await rest_of(first)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [len(await rest_of(call)) for call in later] == [TOKENS] * 2
