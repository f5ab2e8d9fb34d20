"""Sessions that share a call: each as if the call were its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import paceline.engine_server.server
from orchestrator.backends.replica import Replica
from orchestrator.backends.session_calls import DraftCall, TargetCall
from paceline.client import Client
from paceline.errors import DeadlineExceeded, InvalidArgument, PacelineError, ResourceExhausted
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.verdict import Verify
from paceline.rpc.channels import open_channel
from paceline.rpc.multiplex.service import UNREAD
from paceline.rpc.status_codes import from_rpc_error, rpc_error_of
from paceline.v1 import draft_pb2, session_pb2, target_pb2, target_pb2_grpc
from tests import servers
from tests.servers import codes
from tests.tiny_models import VOCABULARY, perturbed, tiny_model

VERIFY, DRAFT = "/paceline.v1.TargetService/Verify", "/paceline.v1.DraftService/Draft"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def draft_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perturbed(folder, tmp_path_factory.mktemp("draft"), 0.02)


def requests(speculation: Speculation) -> list[GenerateRequest]:
    return [
        GenerateRequest(
            f"stream {seed}",
            seed=seed,
            sampling=SamplingParams(temperature=1.0),
            max_tokens=40 + 10 * seed,
            ignore_eos=True,
            speculation=speculation,
        )
        for seed in range(6)
    ]


async def outputs(client: Client, asked: list[GenerateRequest]) -> list[tuple[int, ...]]:
    results = await asyncio.gather(*(client.generate(request).result() for request in asked))
    return [result.token_ids for result in results]


def calls(server: servers.Server, method: str) -> int:
    """Calls of the method that have ended, whatever their code."""
    return codes(server.registry, method).total()


async def test_streams_at_once_share_calls_and_give_the_tokens_they_give_alone(
    folder: Path, draft_folder: Path
) -> None:
    async with (
        servers.target(folder) as target,
        servers.draft(draft_folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        alone = [
            (await client.generate(request).result()).token_ids
            for request in requests(Speculation.OFF)
        ]
        assert calls(target, VERIFY + "Shared") == 0
        for speculation in Speculation:
            assert await outputs(client, requests(speculation)) == alone
        await servers.nothing_is_left(target, draft)
        assert 1 <= calls(target, VERIFY + "Shared") < calls(target, VERIFY)
        assert 1 <= calls(draft, DRAFT + "Shared") < calls(draft, DRAFT)
        for server, method in ((target, VERIFY), (draft, DRAFT)):
            for one in (method, method + "Shared"):
                assert set(codes(server.registry, one)) == {"OK"}, one


async def test_a_server_that_knows_no_shared_calls_gets_none(
    folder: Path, draft_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paceline.engine_server.server, "SHARED_CALLS", "something_else")
    async with (
        servers.target(folder) as target,
        servers.draft(draft_folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        alone = await outputs(client, requests(Speculation.OFF))
        assert await outputs(client, requests(Speculation.FORCE)) == alone
        await servers.nothing_is_left(target, draft)
        assert calls(target, VERIFY + "Shared") == calls(draft, DRAFT + "Shared") == 0


@pytest.fixture
async def replica(folder: Path) -> AsyncIterator[tuple[Replica, servers.Server]]:
    """A target with room for two sessions."""
    async with (
        servers.target(folder, kv_tokens=1024, kv_reserve_tokens=0, max_waiting=0) as server,
        open_channel(server.address) as channel,
    ):
        replica = Replica(server.address, channel)
        await replica.poll()
        replica.sessions = 1  # so that others share
        yield replica, server


def opening(**fields: Any) -> Opening:
    given: dict[str, Any] = {
        "request_id": "shared",
        "prompt_token_ids": (1, 2),
        "output_token_ids": (),
        "sampling": SamplingParams(),
        "seed": 1,
        "max_tokens": 20,
        "stop_token_ids": frozenset(),
        **fields,
    }
    return Opening(**given)


def target_call(replica: Replica, seconds: float = 60.0) -> TargetCall:
    return TargetCall(replica, seconds, lambda _: None)


async def answers(call: TargetCall) -> bool:
    await call.ask(Verify())
    async for verdict in call.verdicts():
        return verdict.verdict.position == 2
    return False


async def test_an_error_ends_its_session_alone(replica: tuple[Replica, servers.Server]) -> None:
    found, server = replica
    async with target_call(found) as good, target_call(found) as bad:
        await good.open(opening())
        with pytest.raises(InvalidArgument, match="prompt_token_ids"):
            await bad.open(opening(prompt_token_ids=(VOCABULARY,)))
        assert await answers(good)
        assert found.shared_call is not None
        assert not found.shared_call.ended
    assert found.shared_call.ended
    await servers.nothing_is_left(server)


async def test_a_session_that_is_left_is_freed_while_others_go_on(
    replica: tuple[Replica, servers.Server],
) -> None:
    found, server = replica
    async with target_call(found) as stays:
        await stays.open(opening())
        async with target_call(found) as leaves:
            await leaves.open(opening())
            assert server.started.engine.load.sessions == 2

        async def freed() -> bool:
            return server.started.engine.load.sessions == 1

        await servers.eventually(freed)
        assert await answers(stays)


async def test_a_full_server_says_when_to_try_again(
    replica: tuple[Replica, servers.Server],
) -> None:
    found, _ = replica
    async with target_call(found) as one, target_call(found) as two, target_call(found) as three:
        await one.open(opening())
        await two.open(opening())
        with pytest.raises(ResourceExhausted) as raised:
            await three.open(opening())
        assert raised.value.retry_after is not None
        assert raised.value.retry_after > 0


async def test_a_session_ends_at_its_deadline(replica: tuple[Replica, servers.Server]) -> None:
    found, server = replica
    async with target_call(found) as stays, target_call(found, seconds=0.3) as call:
        await stays.open(opening())
        await call.open(opening())
        with pytest.raises(DeadlineExceeded):
            async for _ in call.verdicts():  # none was asked for
                pass
        assert await answers(stays)
    await servers.nothing_is_left(server)


async def test_a_message_too_large_to_share_is_refused_with_the_limit(
    replica: tuple[Replica, servers.Server],
) -> None:
    found, _ = replica
    async with target_call(found) as call:
        with pytest.raises(ResourceExhausted, match="the limit on a shared call is"):
            await call.open(opening(prompt_token_ids=(1,) * 3_000_000))


async def test_the_end_of_the_server_ends_all_sessions(folder: Path) -> None:
    async with open_channel("127.0.0.1:1") as channel:
        found = Replica("127.0.0.1:1", channel)
        async with servers.target(folder) as server:
            found.channel = open_channel(server.address)
            await found.poll()
            found.sessions = 1
            one, two = target_call(found), target_call(found)
            await one.open(opening())
            await two.open(opening())
        for call in (one, two):
            with pytest.raises(PacelineError):
                async for _ in call.verdicts():
                    pass
        assert found.shared_call is not None
        assert found.shared_call.ended
        await found.channel.close()


async def test_drafts_share_too(folder: Path) -> None:
    async with servers.draft(folder) as server, open_channel(server.address) as channel:
        found = Replica(server.address, channel)
        await found.poll()
        found.sessions = 1
        async with DraftCall(found, 60.0) as one, DraftCall(found, 60.0) as two:
            for call in (one, two):
                await call.open(opening())
            assert found.shared_call is not None
        await servers.nothing_is_left(server)


def verify(session: int, **message: Any) -> target_pb2.VerifyRequest:
    return target_pb2.VerifyRequest(session=session, **message)


def shared(*requests: target_pb2.VerifyRequest) -> target_pb2.VerifySharedRequest:
    return target_pb2.VerifySharedRequest(requests=requests)


def opened(session: int) -> target_pb2.VerifyRequest:
    prompt = session_pb2.Open(prompt_token_ids=[1, 2], max_tokens=9)
    return verify(session, open=prompt)


async def test_requests_out_of_order_end_the_session_that_sent_them(
    replica: tuple[Replica, servers.Server],
) -> None:
    found, server = replica
    ask = target_pb2.Verify()
    messages = [
        shared(verify(7, verify=ask), opened(1), opened(2), opened(2), verify(1, verify=ask))
    ]
    call = target_pb2_grpc.TargetServiceStub(found.channel).VerifyShared()
    await call.write(messages[0])
    kinds: dict[int, list[str]] = {1: [], 2: []}
    closed = None
    while closed is None or "verdict" not in kinds[1]:
        message: Any = await call.read()
        for response in message.responses:
            kind = response.WhichOneof("message")
            kinds[response.session].append(kind)
            if kind == "closed":
                closed = rpc_error_of(response.closed)
    assert kinds == {1: ["opened", "verdict"], 2: ["opened", "closed"]}
    assert str(from_rpc_error(closed)) == "only verify may follow open"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK
    await servers.nothing_is_left(server)


async def test_a_flood_ends_the_call(replica: tuple[Replica, servers.Server]) -> None:
    found, server = replica
    call = target_pb2_grpc.TargetServiceStub(found.channel).VerifyShared()
    flood = [verify(1, verify=target_pb2.Verify())] * (UNREAD + 1)
    await call.write(shared(opened(1), *flood))
    with pytest.raises(
        grpc.aio.AioRpcError, match=f"{UNREAD} requests of session 1 wait"
    ) as raised:
        async for _ in call:
            pass
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await servers.nothing_is_left(server)


@pytest.mark.parametrize("method", [VERIFY, DRAFT])
def test_the_numbers_lie_where_both_services_read_them(method: str) -> None:
    """One piece of code serves both, so their messages must agree."""
    request, response = {
        VERIFY: (target_pb2.VerifyRequest, target_pb2.VerifyResponse),
        DRAFT: (draft_pb2.DraftRequest, draft_pb2.DraftResponse),
    }[method]
    assert request(session=3, close=session_pb2.Close()).WhichOneof("message") == "close"
    assert response(session=3, closed=session_pb2.Closed()).WhichOneof("message") == "closed"
