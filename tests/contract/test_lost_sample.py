"""An output that is measured and lost on the way: said, as the time until it goes on counts."""

import asyncio
import contextlib

import grpc
import pytest
from prometheus_client import CollectorRegistry

from paceline.client import Client
from paceline.protocol.generation import Speculation
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from paceline.rpc.options import server_options
from paceline.v1 import generation_pb2_grpc
from paceline_tools.bench.samples import Prompt
from paceline_tools.bench.variants import Served
from tests.contract.test_lost_generate import SECONDS, Stalled
from tests.servers import eventually


async def test_whose_output_is_tried_again_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    interceptor = CallInterceptor(RpcMetrics(CollectorRegistry()))
    server = grpc.aio.server(interceptors=[interceptor], options=server_options(public=True))
    service = Stalled()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    said: list[str] = []

    async def told() -> bool:
        said.append(capsys.readouterr().err)
        return "trying again" in "".join(said)

    async with Client(f"127.0.0.1:{port}") as client:
        variant = Served("target_only", client, Speculation.OFF, 0.0)
        running = asyncio.create_task(variant.run(Prompt("prose", "A long way to go"), 8))
        await asyncio.wait_for(service.gave.wait(), SECONDS)
        await server.stop(0)
        await eventually(told)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert "paceline: target_only, 'A long way to go': " in "".join(said)
