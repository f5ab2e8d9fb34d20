"""What a client's attempts have in common, and which orchestrator the next one goes to."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from benchmarks.faulty_wire import faulty
from paceline.client import Client, connections, retry
from paceline.errors import Unavailable
from paceline.protocol.generation import GenerateRequest
from paceline.v1 import generation_pb2_grpc
from tests import servers
from tests.contract.test_lost_servers import DyingOrchestrator

REQUEST = GenerateRequest("again", seed=1, max_tokens=2, ignore_eos=True)


class Busy(DyingOrchestrator):
    """Takes no stream, and remembers how each call was named."""

    def __init__(self) -> None:
        super().__init__((grpc.StatusCode.UNAVAILABLE, "not now"))
        self.ids: list[str] = []

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.ids += [dict(context.invocation_metadata())["x-request-id"]]
        async for response in super().Generate(request, context):
            yield response


async def test_all_attempts_of_an_output_have_one_request_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    busy, server = Busy(), grpc.aio.server()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(busy, server)
    port = server.add_insecure_port(servers.ANY_PORT)
    await server.start()
    async with Client(f"127.0.0.1:{port}", retries=2) as client:
        for _ in range(2):
            with pytest.raises(Unavailable, match="not now"):
                await client.generate(REQUEST).result()
    await server.stop(0)
    one, other = busy.ids[0], busy.ids[-1]
    assert busy.ids == [one] * 3 + [other] * 3
    assert len({one, other, ""}) == 3


async def test_an_orchestrator_that_was_silent_gets_no_stream_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "DOUBT_SECONDS", 0.0)
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as one,
        servers.orchestrator([target.address], []) as two,
        faulty(one.address) as near,
        faulty(two.address) as far,
        Client(f"{near.address},{far.address}") as client,
    ):
        await client.generate(REQUEST).result()
        await client.generate(REQUEST).result()
        assert (await one.status()).totals.streams == 1
        near.stall()
        client._connections.doubt(near.address)
        for _ in range(4):
            await client.generate(REQUEST).result()
        assert (await two.status()).totals.streams == 1 + 4
        near.heal()
        near.cut()  # what was said meanwhile is lost

        async def gets_one() -> bool:
            await client.generate(REQUEST).result()
            return (await one.status()).totals.streams > 1

        await servers.eventually(gets_one)
