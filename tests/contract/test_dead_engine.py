"""A target whose engine has died: its sessions go elsewhere at once, and no new one is begun."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from paceline.engine.interfaces import KVCache, Logits, Span, StartedEngine
from paceline.errors import Internal, Unavailable
from paceline.protocol.generation import GenerateRequest
from paceline.rpc import server as server_module
from paceline.rpc.channels import open_channel
from paceline.rpc.server import _watch
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import model_pb2, model_pb2_grpc, session_pb2, target_pb2, target_pb2_grpc
from tests import servers
from tests.tiny_models import tiny_model

REQUEST = GenerateRequest("go on", max_tokens=300, ignore_eos=True, seed=1)


class Fatal(BaseException):
    """No exception that anybody catches."""


def kill(started: StartedEngine) -> None:
    """Let the next forward pass take the worker down."""

    def forward(batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        raise Fatal

    started.engine._run = forward  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


async def read_on(call: Any) -> None:
    while True:
        await call.read()


async def test_its_sessions_end_unavailable_and_it_says_that_it_takes_no_more(
    folder: Path,
) -> None:
    async with servers.target(folder) as target, open_channel(target.address) as channel:
        stub = target_pb2_grpc.TargetServiceStub(channel)
        opening = session_pb2.Open(prompt_token_ids=[1, 2], max_tokens=5)
        request = target_pb2.VerifyRequest(open=opening)
        idle, asking = stub.Verify(), stub.Verify()
        for call in (idle, asking):
            await call.write(request)
            opened: Any = await call.read()
            assert opened.HasField("opened")
        kill(target.started)
        await asking.write(target_pb2.VerifyRequest(verify=target_pb2.Verify()))
        for call in (asking, idle):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_on(call)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        late = stub.Verify(iter([request]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await late.read()
        assert isinstance(from_rpc_error(raised.value), Unavailable)
        models = model_pb2_grpc.ModelServiceStub(channel)
        assert (await models.GetModelInfo(model_pb2.GetModelInfoRequest())).draining


async def test_streams_go_on_with_another_target(folder: Path) -> None:
    async with (
        servers.target(folder) as one,
        servers.target(folder) as two,
        servers.orchestrator([one.address, two.address], []) as client,
    ):
        expected = (await client.generate(REQUEST).result()).token_ids
        tokens: list[int] = []
        async for delta in client.generate(REQUEST):
            tokens += [token.id for token in delta.tokens]
            if len(tokens) == 40:
                [used] = [each for each in (one, two) if each.started.engine.load.sessions]
                kill(used.started)
        assert tuple(tokens) == expected
        assert sum(each.started.engine.alive for each in (one, two)) == 1


class Dead:
    """A service that has died."""

    def alive(self) -> bool:
        return False


async def test_a_process_whose_service_has_died_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "ALIVE_SECONDS", 0.001)
    monkeypatch.setattr(server_module, "DEAD_SECONDS", 0.003)
    with pytest.raises(Internal, match="has died"):
        await _watch(Dead(), asyncio.Event())  # type: ignore[arg-type]
