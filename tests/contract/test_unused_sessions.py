"""Sessions that are opened and never used give their KV back; those that are used do not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest

from benchmarks.faulty_wire import faulty
from paceline.engine_server import session as module
from paceline.rpc import options, session_stream
from paceline.rpc.channels import open_channel
from paceline.v1 import draft_pb2, draft_pb2_grpc, session_pb2, target_pb2, target_pb2_grpc
from tests import servers

OPEN = session_pb2.Open(prompt_token_ids=range(65, 75), max_tokens=2000)
SAID = "the session was asked for nothing for 0.2 s, and gives its KV back; open another one"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNUSED_SECONDS", 0.2)
    monkeypatch.setattr(session_stream, "PROGRESS_SECONDS", 0.02)


async def held_open(messages: Iterable[Any]) -> AsyncIterator[Any]:
    """The messages, and no end."""
    for message in messages:
        yield message
    await asyncio.Event().wait()


async def answers_of(call: Any) -> tuple[list[str], str]:
    """The kinds of what came, without signs of life, and what UNAVAILABLE ended it."""
    kinds: list[str] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for answer in call:
            kinds += [answer.WhichOneof("message")]
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    return [kind for kind in kinds if kind != "progress"], await call.details()


async def test_a_session_that_a_target_is_never_asked_in_ends() -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        open_channel(target.address) as channel,
    ):
        stub = target_pb2_grpc.TargetServiceStub(channel)
        call = stub.Verify(held_open([target_pb2.VerifyRequest(open=OPEN)]), timeout=60)
        kinds, said = await answers_of(call)
        assert kinds == ["opened"]
        assert said == SAID
        await servers.nothing_is_left(target)


async def test_one_that_is_not_asked_again_ends_behind_its_verdicts() -> None:
    """Each of its steps takes longer than a session may be of no use."""
    asked = target_pb2.Verify(continue_steps=2)
    messages = [target_pb2.VerifyRequest(open=OPEN), target_pb2.VerifyRequest(verify=asked)]
    async with (
        servers.target("simulated:step_ms=400") as target,
        open_channel(target.address) as channel,
    ):
        call = target_pb2_grpc.TargetServiceStub(channel).Verify(held_open(messages), timeout=60)
        kinds, said = await answers_of(call)
        assert kinds == ["opened", *["verdict"] * 3]
        assert said == SAID
        await servers.nothing_is_left(target)


async def test_an_output_that_has_ended_is_owed_nothing_whatever_was_asked() -> None:
    opened = session_pb2.Open(prompt_token_ids=range(65, 75), max_tokens=2)
    asked = target_pb2.Verify(continue_steps=1000)
    messages = [target_pb2.VerifyRequest(open=opened), target_pb2.VerifyRequest(verify=asked)]
    async with (
        servers.target("simulated:step_ms=1") as target,
        open_channel(target.address) as channel,
    ):
        call = target_pb2_grpc.TargetServiceStub(channel).Verify(held_open(messages), timeout=60)
        assert await answers_of(call) == (["opened", "verdict", "verdict"], SAID)
        await servers.nothing_is_left(target)


async def test_on_a_shared_call_it_ends_alone() -> None:
    opened = target_pb2.VerifyRequest(open=OPEN, session=7)
    messages = [target_pb2.VerifySharedRequest(requests=[opened])]
    async with (
        servers.target("simulated:step_ms=1") as target,
        open_channel(target.address) as channel,
    ):
        call = target_pb2_grpc.TargetServiceStub(channel).VerifyShared(held_open(messages))
        async for message in call:
            closed = [one.closed for one in message.responses if one.HasField("closed")]
            if closed:
                break
        assert closed == [session_pb2.Closed(code=14, message=SAID)]
        await servers.nothing_is_left(target)
        call.cancel()


@pytest.mark.parametrize("drafter", ["model", "hybrid", "ngram"])
async def test_a_draft_session_that_is_told_nothing_ends(drafter: str) -> None:
    model = None if drafter == "ngram" else "simulated:step_ms=1"
    async with (
        servers.draft(model, drafter=drafter) as draft,
        open_channel(draft.address) as channel,
    ):
        stub = draft_pb2_grpc.DraftServiceStub(channel)
        advance = draft_pb2.Advance(position=10, lookahead=4)
        for messages in (
            [draft_pb2.DraftRequest(open=OPEN)],
            [draft_pb2.DraftRequest(open=OPEN), draft_pb2.DraftRequest(advance=advance)],
        ):
            kinds, said = await answers_of(stub.Draft(held_open(messages), timeout=60))
            assert set(kinds) <= {"opened", "proposals"}
            assert len(kinds) >= len(messages)
            assert said == SAID
        await servers.nothing_is_left(draft)


@contextlib.asynccontextmanager
async def cut_off() -> AsyncIterator[tuple[servers.Server, Any]]:
    """A target, and a call with a session there that nothing comes from any more, or gets to."""
    async with (
        servers.target("simulated:step_ms=1") as target,
        faulty(target.address) as wire,
        open_channel(wire.address) as channel,
    ):
        stub = target_pb2_grpc.TargetServiceStub(channel)
        opening = held_open([target_pb2.VerifyRequest(open=OPEN)])
        call: Any = stub.Verify(opening, timeout=3600)
        assert (await call.read()).WhichOneof("message") == "opened"
        assert target.started.engine.load.sessions == 1
        wire.stall()
        yield target, call


async def test_a_caller_that_is_gone_without_a_word_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it held is free long before its deadline, and before its session counts as unused."""
    monkeypatch.setattr(module, "UNUSED_SECONDS", 3600.0)
    monkeypatch.setattr(options, "KEEPALIVE_MS", 1000)
    async with cut_off() as (target, call):
        await servers.nothing_is_left(target)
        assert not call.done()


async def test_a_server_that_is_gone_without_a_word_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the connection alone, and not after gRPC's minute."""
    monkeypatch.setattr(module, "UNUSED_SECONDS", 3600.0)
    monkeypatch.setattr(options, "CHANNEL_KEEPALIVE_MS", 1000)
    async with cut_off() as (_, call):
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await asyncio.wait_for(call.read(), 40.0)
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
