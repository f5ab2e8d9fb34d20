"""An output whose orchestrator dies for good: said at once, and what came of it is kept."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from paceline.protocol.generation import Delta, Started, Token
from paceline.protocol.verdict import Origin
from paceline.rpc.codec.generation import event_to_proto
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from paceline.rpc.options import server_options
from paceline.v1 import generation_pb2, generation_pb2_grpc
from tests.contract.test_command import COMMAND, Service

SECONDS = 20.0
LOST = b"; trying again until "


class Stalled(Service):
    """Gives two tokens, and nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.gave = asyncio.Event()

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        yield event_to_proto(Started("id", "m", "f", 7, (1,), 8, (7, 8)))
        tokens = (Token(1, Origin.TARGET_ONLY, "so "), Token(2, Origin.TARGET_ONLY, "far"))
        yield event_to_proto(Delta(0, tokens))
        self.gave.set()
        await asyncio.Event().wait()


async def stalled() -> tuple[Stalled, grpc.aio.Server, int]:
    """Such a service, its server, and the port."""
    interceptor = CallInterceptor(RpcMetrics(CollectorRegistry()))
    server = grpc.aio.server(interceptors=[interceptor], options=server_options(public=True))
    service = Stalled()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return service, server, port


async def lost(*flags: str, interrupted: bool = False) -> tuple[int, bytes, bytes]:
    """Status, output and errors of a command whose server has gone, and stays away."""
    service, server, port = await stalled()
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("generate", "x", f"--address=127.0.0.1:{port}", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    await asyncio.wait_for(service.gave.wait(), SECONDS)
    await server.stop(0)
    said = await asyncio.wait_for(process.stderr.readline(), SECONDS)
    assert process.returncode is None
    if interrupted:
        process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode or 0, out, said + err


async def test_json_has_what_came_and_the_error() -> None:
    status, out, err = await lost("--json", "--timeout=6")
    assert status == 1
    told, failed = err.splitlines()
    assert LOST in told
    shown = json.loads(out)
    assert (shown["text"], shown["token_ids"], shown["seed"]) == ("so far", [1, 2], 7)
    assert shown["finish_reason"] is None
    assert failed.decode() == f"paceline: {shown['error']}"


async def test_json_of_what_is_interrupted_has_what_came() -> None:
    status, out, err = await lost("--json", interrupted=True)
    assert status == 130
    assert LOST in err
    shown = json.loads(out)
    assert (shown["token_ids"], shown["error"]) == ([1, 2], "interrupted")


@pytest.mark.parametrize(("flags", "text"), [((), b"so far"), (("-n", "2"), b"so far\n\n")])
async def test_text_that_came_is_printed(flags: tuple[str, ...], text: bytes) -> None:
    status, out, err = await lost(*flags, interrupted=True)
    assert (status, out) == (130, text)
    assert err.count(LOST) == 1
