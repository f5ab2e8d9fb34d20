"""Batches: in order, together, bounded. The time that a session has."""

import asyncio
import math
from typing import Any

import grpc
import pytest

from paceline.errors import ResourceExhausted
from paceline.rpc.deadline import DEFAULT_SECONDS
from paceline.rpc.multiplex.call import (
    BATCH_BYTES,
    LARGEST_BYTES,
    UNREAD_RESPONSES,
    WAITING_BYTES,
    Batches,
    SharedCall,
)
from paceline.rpc.multiplex.service import SessionContext
from paceline.v1 import session_pb2, target_pb2


def message(name: str, size: int = 0) -> session_pb2.Open:
    return session_pb2.Open(request_id=name, cache_salt="x" * size)


async def names(batches: Batches[session_pb2.Open]) -> list[str]:
    return [one.request_id for one in await batches.take()]


async def test_what_waits_together_goes_together_in_order() -> None:
    batches: Batches[session_pb2.Open] = Batches()
    taking = asyncio.create_task(names(batches))
    await asyncio.sleep(0)
    for name in "abc":
        await batches.put(message(name))
    assert await taking == ["a", "b", "c"]
    await batches.put(message("d"))
    assert await names(batches) == ["d"]


async def test_a_batch_ends_with_what_makes_it_large() -> None:
    batches: Batches[session_pb2.Open] = Batches()
    for name in "abc":
        await batches.put(message(name, BATCH_BYTES // 2 + 1))
    assert await names(batches) == ["a", "b"]
    assert await names(batches) == ["c"]


async def test_who_sends_waits_for_room() -> None:
    batches: Batches[session_pb2.Open] = Batches()
    for _ in range(4):
        await batches.put(message("early", WAITING_BYTES // 4))
    late = asyncio.create_task(batches.put(message("late")))
    await asyncio.sleep(0)
    assert not late.done()
    assert await names(batches) == ["early"]
    await late
    assert [await names(batches) for _ in range(4)] == [["early"]] * 3 + [["late"]]


async def test_a_message_that_fills_a_call_is_refused_with_the_limit() -> None:
    batches: Batches[session_pb2.Open] = Batches()
    with pytest.raises(ResourceExhausted, match=f"the limit on a shared call is {LARGEST_BYTES}"):
        await batches.put(message("huge", LARGEST_BYTES))


async def test_closed_it_gives_what_it_has_then_nothing_and_keeps_nobody_waiting() -> None:
    batches: Batches[session_pb2.Open] = Batches()
    for _ in range(4):
        await batches.put(message("early", WAITING_BYTES // 4))
    late = asyncio.create_task(batches.put(message("late")))
    await asyncio.sleep(0)
    batches.close()
    await late
    assert [await names(batches) for _ in range(5)] == [["early"]] * 4 + [[]]


@pytest.mark.parametrize("given", [0.0, -1.0, math.inf, math.nan, 1e9])
async def test_a_time_that_is_none_counts_as_not_given(given: float) -> None:
    context = SessionContext(session_pb2.Open(timeout_seconds=given))
    assert DEFAULT_SECONDS - 60 < context.time_remaining() <= DEFAULT_SECONDS


class Endless:
    """A call on which responses come to session 1 without end; what is sent on it is kept."""

    def __init__(self) -> None:
        self.sent: list[target_pb2.VerifyRequest] = []
        self.cancelled = False

    async def write(self, request: target_pb2.VerifySharedRequest) -> None:
        self.sent += request.requests

    async def read(self) -> target_pb2.VerifySharedResponse:
        await asyncio.sleep(0)
        response = target_pb2.VerifyResponse(session=1, progress=session_pb2.Progress())
        return target_pb2.VerifySharedResponse(responses=[response] * 16)

    def cancel(self) -> None:
        self.cancelled = True


async def test_a_session_that_is_sent_more_than_may_wait_ends_and_no_other_does() -> None:
    endless: Any = Endless()
    call = SharedCall(endless, target_pb2.VerifyRequest, target_pb2.VerifySharedRequest)
    flooded, other = call.join(), call.join()
    async with asyncio.timeout(60):
        while not endless.sent:
            await asyncio.sleep(0)
        for _ in range(UNREAD_RESPONSES):
            assert (await flooded.read()).WhichOneof("message") == "progress"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await flooded.read()
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"{UNREAD_RESPONSES} responses wait" in (raised.value.details() or "")
    assert [(one.session, one.WhichOneof("message")) for one in endless.sent] == [(1, "close")]
    assert not call.ended
    other.cancel()
    assert call.ended
    assert endless.cancelled


class Stuck(Endless):
    """A call to a server that stands still: nothing comes, and nothing goes before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()

    async def write(self, request: target_pb2.VerifySharedRequest) -> None:
        await self.goes_on.wait()
        await super().write(request)

    async def read(self) -> target_pb2.VerifySharedResponse:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_session_given_up_while_its_opening_waits_for_room_is_not_opened_afterwards() -> (
    None
):
    """Nobody would close it: it would hold KV until it was found to be of no use."""
    stuck: Any = Stuck()
    call = SharedCall(stuck, target_pb2.VerifyRequest, target_pb2.VerifySharedRequest)
    other, late = call.join(), call.join()
    large = session_pb2.Open(request_id="x" * (LARGEST_BYTES - 100))
    for _ in range(4):  # one is on its way; those that wait are more than have room
        await other.write(target_pb2.VerifyRequest(open=large))
        await asyncio.sleep(0)
    opening = asyncio.create_task(late.write(target_pb2.VerifyRequest(open=session_pb2.Open())))
    await asyncio.sleep(0)
    assert not opening.done()
    late.cancel()
    stuck.goes_on.set()
    async with asyncio.timeout(60):
        await opening
        while len(stuck.sent) < 5:
            await asyncio.sleep(0)
    found = [(one.session, one.WhichOneof("message")) for one in stuck.sent]
    assert found == [(1, "open")] * 4 + [(2, "close")]
    other.cancel()
