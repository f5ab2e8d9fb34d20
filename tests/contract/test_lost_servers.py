"""A server that dies, is silent or cut off in whatever way: its streams go on elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from benchmarks.faulty_wire import FaultyWire, faulty
from orchestrator.backends import liveness
from paceline import machine
from paceline.client import Client, connections, names
from paceline.engine_server import session
from paceline.errors import Internal
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc import session_stream
from paceline.rpc.channels import open_channel
from paceline.rpc.options import Options, channel_options
from paceline.v1 import generation_pb2, generation_pb2_grpc, session_pb2, target_pb2
from tests import servers
from tests.contract.test_nonsense import NonsenseTarget, serving
from tests.marks import slow

TARGET = "simulated:step_ms=5"
TOKENS = 60
REQUEST = GenerateRequest(
    "lost", max_tokens=TOKENS, seed=3, ignore_eos=True, speculation=Speculation.OFF
)
STATUSES = [
    (grpc.StatusCode.INTERNAL, "Internal error from Core"),
    (grpc.StatusCode.UNKNOWN, "Stream removed"),
    (grpc.StatusCode.CANCELLED, "Received RST_STREAM with error code 8"),
    (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
    (grpc.StatusCode.DATA_LOSS, "truncated"),
    (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    (grpc.StatusCode.ABORTED, "who knows"),
    (grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
    (grpc.StatusCode.PERMISSION_DENIED, "by a proxy"),
]
"""What gRPC, or a proxy, makes of a server that is gone. Clients see the first six as that."""


class DyingTarget(NonsenseTarget):
    """A target that ends each session with a status, before or behind Opened."""

    def __init__(
        self, other: servers.Server, status: tuple[grpc.StatusCode, str], *, opens: bool = False
    ) -> None:
        super().__init__(other)
        self.status = status
        self.opens = opens

    async def Verify(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        self.opened += 1
        if self.opens:
            opened = session_pb2.Opened(fingerprint=self.started.model.fingerprint)
            yield target_pb2.VerifyResponse(opened=opened)
        await context.abort(*self.status)


async def outputs(client: Client, count: int = 1) -> list[tuple[int, ...]]:
    """Of so many equal streams at once."""
    results = await asyncio.gather(*(client.generate(REQUEST).result() for _ in range(count)))
    return [result.token_ids for result in results]


@pytest.mark.parametrize("opens", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("status", [*STATUSES[:3], *slow(*((one,) for one in STATUSES[3:]))])
async def test_whatever_grpc_makes_of_a_dead_target_its_streams_go_on_elsewhere(
    status: tuple[grpc.StatusCode, str], opens: bool
) -> None:
    async with servers.target(TARGET) as target, servers.orchestrator([target.address], []) as one:
        [expected] = await outputs(one)
        dying = DyingTarget(target, status, opens=opens)
        async with (
            serving(dying) as address,
            servers.orchestrator([address, target.address], []) as client,
        ):
            await servers.has_targets(client, 2)
            assert await outputs(client, 4) == [expected] * 4
            assert dying.opened


async def test_a_target_with_a_bug_is_tried_twice_and_then_named() -> None:
    async with servers.target(TARGET) as target:
        dying = DyingTarget(target, (grpc.StatusCode.INTERNAL, "a bug; request id x"))
        async with serving(dying) as address, servers.orchestrator([address], []) as client:
            with pytest.raises(Internal, match=rf"^the target at {address} failed: a bug; req"):
                await outputs(client)
        assert dying.opened == 2


Stall = Callable[[FaultyWire], None]
STALLS: dict[str, Stall] = {
    "requests": lambda wire: wire.stall(down=False),
    "answers": lambda wire: wire.stall(up=False),
    "both": lambda wire: wire.stall(),
}


@asynccontextmanager
async def two_behind_wires() -> AsyncIterator[tuple[Client, list[FaultyWire], list[int]]]:
    """Two equal targets, each behind a wire; the tokens of REQUEST."""
    async with (
        servers.target(TARGET) as first,
        servers.target(TARGET) as second,
        faulty(first.address) as near,
        faulty(second.address) as far,
        servers.orchestrator([near.address, far.address], []) as client,
    ):
        await servers.has_targets(client, 2)
        [expected] = await outputs(client)
        yield client, [near, far], list(expected)
        for wire in (near, far):
            wire.heal()
        await servers.nothing_is_left(first, second)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence alone is believed for ever; servers of one process count as several."""
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", 3600.0)
    monkeypatch.setattr(machine, "_PROCESS", "")


async def tokens_with(
    client: Client, fault: Callable[[], None], after: int = 10, request: GenerateRequest = REQUEST
) -> list[int]:
    """Tokens of a request, with a fault behind so many."""
    tokens: list[int] = []
    async for delta in client.generate(request):
        assert delta.token_index == len(tokens)
        before = len(tokens)
        tokens += [token.id for token in delta.tokens]
        if before < after <= len(tokens):
            fault()
    return tokens


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("stall", STALLS.values(), ids=STALLS.keys())
async def test_streams_of_a_target_that_is_cut_off_go_on_at_another_one(stall: Stall) -> None:
    async with two_behind_wires() as (client, wires, expected):
        others = [asyncio.create_task(outputs(client)) for _ in range(5)]
        assert await tokens_with(client, lambda: stall(wires[0])) == expected
        for [found] in await asyncio.gather(*others):
            assert list(found) == expected


@pytest.mark.usefixtures("patient")
async def test_a_stream_that_is_opened_on_a_target_that_is_cut_off_begins_at_another_one() -> None:
    async with two_behind_wires() as (client, wires, expected):
        for wire in wires:
            wire.stall()
            assert [list(found) for found in await outputs(client, 3)] == [expected] * 3
            wire.heal()


@pytest.mark.usefixtures("patient")
async def test_a_target_that_is_silent_for_a_while_goes_on_where_no_other_is() -> None:
    async with (
        servers.target(TARGET) as target,
        faulty(target.address) as wire,
        servers.orchestrator([wire.address], []) as client,
    ):
        [expected] = await outputs(client)

        def stall() -> None:
            wire.stall()
            asyncio.get_running_loop().call_later(1.0, wire.heal)

        assert await tokens_with(client, stall) == list(expected)


@pytest.mark.usefixtures("patient")
async def test_a_target_that_nobody_can_tell_closes_the_sessions_it_was_left_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its orchestrator has gone on elsewhere, and what it says of that never comes."""
    monkeypatch.setattr(session, "UNUSED_SECONDS", 0.2)
    monkeypatch.setattr(session_stream, "PROGRESS_SECONDS", 0.02)
    async with (
        servers.target(TARGET) as first,
        servers.target(TARGET) as second,
        faulty(first.address) as near,
        faulty(second.address) as far,
        servers.orchestrator([near.address, far.address], []) as client,
    ):
        await servers.has_targets(client, 2)
        [expected] = await outputs(client)

        others = [asyncio.create_task(outputs(client)) for _ in range(5)]
        assert await tokens_with(client, near.stall) == list(expected)
        assert [found for [found] in await asyncio.gather(*others)] == [expected] * 5
        await servers.nothing_is_left(first, second)


@pytest.mark.usefixtures("patient")
async def test_connections_that_break_in_the_middle_of_a_message_lose_nothing() -> None:
    async with two_behind_wires() as (client, wires, expected):
        for wire in wires:
            assert await tokens_with(client, lambda cut=wire: cut.truncate(7)) == expected  # type: ignore[misc]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("stall", STALLS.values(), ids=STALLS.keys())
async def test_a_draft_that_is_cut_off_is_asked_and_given_up_however_long_rounds_may_wait(
    stall: Stall,
) -> None:
    forced = replace(REQUEST, speculation=Speculation.FORCE)
    async with (
        servers.target(TARGET) as target,
        servers.draft("simulated:step_ms=1,acceptance=0.8", drafter="model") as draft,
        faulty(draft.address) as wire,
        servers.orchestrator([target.address], [wire.address], draft_wait_seconds=3600) as client,
    ):
        [expected] = await outputs(client)
        assert await tokens_with(client, lambda: stall(wire), request=forced) == list(expected)
        found = await asyncio.gather(*(client.generate(forced).result() for _ in range(3)))
        assert [one.token_ids for one in found] == [expected] * 3
        wire.heal()


class DyingOrchestrator(generation_pb2_grpc.GenerationServiceServicer):
    """Ends each call with a status."""

    def __init__(self, status: tuple[grpc.StatusCode, str]) -> None:
        self.status = status
        self.calls = 0

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.calls += 1
        await context.abort(*self.status)
        yield generation_pb2.GenerateResponse()

    def Tokenize(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def Detokenize(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def ListModels(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("status", [*STATUSES[:2], *slow(*((one,) for one in STATUSES[2:6]))])
async def test_whatever_grpc_makes_of_a_dead_orchestrator_another_one_is_asked(
    status: tuple[grpc.StatusCode, str],
) -> None:
    dying, server = DyingOrchestrator(status), grpc.aio.server()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(dying, server)
    port = server.add_insecure_port(servers.ANY_PORT)
    await server.start()
    async with servers.target(TARGET) as target, servers.orchestrator([target.address], []) as one:
        [expected] = await outputs(one)
        async with Client(f"127.0.0.1:{port},{one.address}") as client:
            assert await outputs(client, 2) == [expected] * 2
    assert dying.calls
    await server.stop(0)


def without_keepalive(answer_bytes: int, proxy: str = "") -> Options:
    """Options of a client's channels that never ask whether the connection is there."""
    return [one for one in channel_options(answer_bytes, proxy) if "keepalive" not in one[0]]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("named", ["{near},{far}", "ipv4:{near},{far}", "a-name:7070"])
@pytest.mark.parametrize("stall", STALLS.values(), ids=STALLS.keys())
async def test_streams_of_an_orchestrator_that_is_cut_off_go_on_at_another_one(
    stall: Stall, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address of a name is one of its own. Lost requests are those of streams that begin."""
    monkeypatch.setattr(connections, "channel_options", without_keepalive)
    async with (
        servers.target(TARGET) as target,
        servers.orchestrator([target.address], []) as one,
        servers.orchestrator([target.address], []) as two,
        faulty(one.address) as near,
        faulty(two.address) as far,
        Client(named.format(near=near.address, far=far.address)) as client,
    ):

        async def resolve(_: str) -> list[str]:
            return [near.address, far.address]

        monkeypatch.setattr(names, "resolve", resolve)
        [expected] = await outputs(one)
        others = [asyncio.create_task(outputs(client)) for _ in range(3)]
        assert await tokens_with(client, lambda: stall(near)) == list(expected)
        assert await outputs(client, 3) == [expected] * 3  # those that begin there as well
        for [found] in await asyncio.gather(*others):
            assert found == expected


async def test_signs_of_life_come_while_nothing_else_does_and_only_if_asked_for() -> None:
    async with (
        servers.target("simulated:step_ms=1500") as target,
        servers.orchestrator([target.address], []) as client,
        open_channel(client.address) as channel,
    ):
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        prompt = generation_pb2.Prompt(text="slow")
        for asks in (True, False):
            request = generation_pb2.GenerateRequest(
                prompt=prompt, max_tokens=1, signs_of_life=asks
            )
            events = [one async for one in stub.Generate(request)]
            kinds = [one.WhichOneof("event") for one in events if one.HasField("sign_of_life")]
            assert bool(kinds) is asks
            [started] = [one.started for one in events if one.HasField("started")]
            assert started.signs_of_life is asks
