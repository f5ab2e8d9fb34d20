"""Whether a server is silent: judged by what it sent, whatever the event loop did meanwhile."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from orchestrator.backends import liveness
from orchestrator.backends.replica import Replica
from orchestrator.backends.session_calls import TargetCall
from paceline.errors import Unavailable
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.verdict import PromptLogprobs, Verify
from paceline.rpc.channels import open_channel
from paceline.v1 import session_pb2, target_pb2, target_pb2_grpc

OPENING = Opening("calls", (1, 2), SamplingParams(), 0, 8)
LIMIT = 0.5


class Threaded(target_pb2_grpc.TargetServiceServicer):
    """A target with threads of its own, which answers when it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.ended = threading.Event()
        self.progress = 0
        self.waiting = False

    def Verify(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        context.add_callback(self.ended.set)
        next(request_iterator)
        yield target_pb2.VerifyResponse(opened=session_pb2.Opened())
        for position, _ in enumerate(request_iterator, 2):
            for _ in range(self.progress):
                progress = session_pb2.Progress(engine_steps=7, waiting=self.waiting)
                yield target_pb2.VerifyResponse(progress=progress)
            while not (self.answers.wait(0.01) or self.ended.is_set()):
                pass
            verdict = target_pb2.Verdict(position=position, token_ids=[5])
            yield target_pb2.VerifyResponse(verdict=verdict)

    def VerifyShared(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError


@asynccontextmanager
async def threaded(target: Threaded) -> AsyncIterator[TargetCall]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        target_pb2_grpc.add_TargetServiceServicer_to_server(target, server)  # type: ignore[no-untyped-call,unused-ignore]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            async with open_channel(f"127.0.0.1:{port}") as channel:
                replica = Replica(f"127.0.0.1:{port}", channel)
                async with TargetCall(replica, 60.0, ignore) as call:
                    await call.open(OPENING)
                    await call.ask(Verify())
                    yield call
        finally:
            target.ended.set()
            server.stop(0)


def ignore(_: PromptLogprobs) -> None:
    return


async def first(call: TargetCall) -> int:
    async with asyncio.timeout(60):
        async for verdict in call.verdicts():
            return verdict.verdict.position
    raise AssertionError("no verdict")


async def test_what_came_while_the_event_loop_stood_still_is_read_before_anybody_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", LIMIT)
    monkeypatch.setattr(liveness, "_WATCH_SECONDS", LIMIT / 5)
    target = Threaded()

    def stand_still() -> None:
        target.answers.set()  # it answers at once, while nobody reads
        time.sleep(3 * LIMIT)

    async with threaded(target) as call:
        asyncio.get_running_loop().call_later(0.01, stand_still)
        assert await first(call) == 2
        await call.ask(Verify())
        assert await first(call) == 3


async def test_so_it_is_when_the_loop_stands_still_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", LIMIT / 2)
    monkeypatch.setattr(liveness, "_WATCH_SECONDS", LIMIT / 10)
    target = Threaded()

    def stand_still(times: int) -> None:
        time.sleep(LIMIT)
        if times == 1:
            target.answers.set()
        else:
            asyncio.get_running_loop().call_soon(stand_still, times - 1)

    async with threaded(target) as call:
        asyncio.get_running_loop().call_soon(stand_still, 3)
        assert await first(call) == 2
        await call.ask(Verify())
        assert await first(call) == 3


async def test_a_server_that_says_nothing_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", LIMIT)
    async with threaded(Threaded()) as call:
        with pytest.raises(Unavailable, match="is silent"):
            await first(call)


async def test_an_engine_that_makes_no_step_is_dead_by_what_it_says_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "STANDSTILL_SECONDS", 3.0)
    for said, waiting, dead in ((3, False, False), (5, False, True), (5, True, False)):
        target = Threaded()
        target.progress, target.waiting = said, waiting
        async with threaded(target) as call:
            if not dead:
                target.answers.set()
                assert await first(call) == 2
                continue
            with pytest.raises(Unavailable, match="stands still"):
                await first(call)


async def test_a_session_that_had_no_kv_says_so_before_its_verdict() -> None:
    told: list[str] = []
    async with open_channel("unix:/nowhere") as channel:
        replica = Replica("unix:/nowhere", channel, sessions=1)
        call = TargetCall(replica, 1.0, lambda _: None, on_waited=lambda: told.append("waited"))
        verdicts = [
            target_pb2.VerifyResponse(
                verdict=target_pb2.Verdict(
                    position=2 + index, token_ids=[5], waited_seconds=seconds
                )
            )
            for index, seconds in enumerate((0.0, 1.5))
        ]
        opened = target_pb2.VerifyResponse(opened=session_pb2.Opened())
        responses = iter([opened, *verdicts])

        async def read() -> Any:
            return next(responses)

        async with call:
            call._read = read  # type: ignore[method-assign]
            await call.open(OPENING)
            for expected in ([], ["waited"]):
                await call.ask(Verify())
                await first(call)
                assert told == expected


async def test_each_sign_of_life_says_whether_the_session_waits_for_kv() -> None:
    told: list[bool] = []
    async with open_channel("unix:/nowhere") as channel:
        replica = Replica("unix:/nowhere", channel, sessions=1)
        call = TargetCall(replica, 1.0, lambda _: None, on_progress=told.append)
        for waiting in (True, False):
            call._note(session_pb2.Progress(waiting=waiting))
        assert told == [True, False]


async def test_prompt_logprobs_come_on_a_call_of_their_own_at_the_readers_pace() -> None:
    taken: list[int] = []
    events: list[str] = []

    async def room() -> None:
        events.append(f"room after {len(taken)}")

    async with open_channel("unix:/nowhere") as channel:
        replica = Replica("unix:/nowhere", channel, sessions=1)
        opening = replace(OPENING, prompt_token_ids=(1,) * 65, prompt_logprobs=0)
        call = TargetCall(replica, 1.0, lambda piece: taken.append(piece.position), room)
        assert replica.shared_call is None
        tokens = [session_pb2.TokenLogprobs(logprob=-1.0)] * 32
        pieces = [
            target_pb2.VerifyResponse(
                prompt_logprobs=session_pb2.PromptLogprobs(position=position, tokens=tokens)
            )
            for position in (1, 33)
        ]
        verdict = target_pb2.VerifyResponse(verdict=target_pb2.Verdict(position=65, token_ids=[5]))
        opened = target_pb2.VerifyResponse(opened=session_pb2.Opened())
        responses = iter([opened, *pieces, verdict])

        async def read() -> Any:
            return next(responses)

        async with call:
            call._read = read  # type: ignore[method-assign]
            await call.open(opening)
            await call.ask(Verify())
            assert await first(call) == 65
    assert (taken, events) == ([1, 33], ["room after 1", "room after 2"])
