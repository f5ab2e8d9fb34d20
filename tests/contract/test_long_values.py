"""However long what a client sends is, what it is told fits, and says what is wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from paceline.client import Client
from paceline.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PacelineError,
    ResourceExhausted,
    listed,
    shown,
)
from paceline.protocol.generation import GenerateRequest
from paceline.rpc.channels import open_channel
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from paceline.rpc.options import MAX_METADATA_BYTES, server_options
from paceline.rpc.status_codes import MESSAGE_BYTES, from_rpc_error, message_of
from paceline.v1 import generation_pb2, generation_pb2_grpc
from tests import servers
from tests.tiny_models import tiny_model

LONG = 20 * 1024
NAMES = {"plain": "m" * LONG, "not ASCII": "日" * LONG, "percent": "%" * LONG, "line": "\n" * LONG}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[Client]:
    async with (
        servers.target(folder, model_name="tiny") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        yield client


async def test_long_names_are_cut_in_what_is_said_of_them(client: Client) -> None:
    for name in NAMES.values():
        with pytest.raises(NotFound, match=r"^model '.*\.\.\. is not served; there is tiny$"):
            await client.generate(GenerateRequest("x", model=name)).result()
        with pytest.raises(NotFound, match=r"^model '.*\.\.\. is not served; there is tiny$"):
            await client.tokenize("x", model=name)
        with pytest.raises(FailedPrecondition, match=r"^fingerprint '.*\.\.\. is wanted; tiny"):
            await client.generate(GenerateRequest("x", fingerprint=name)).result()
        with pytest.raises(FailedPrecondition, match=r"^required_features has '.*\.\.\.; known"):
            await client.generate(GenerateRequest("x", required_features=(name,))).result()
        with pytest.raises(InvalidArgument, match=rf"^the length of a string of stop is {LONG};"):
            await client.generate(GenerateRequest("x", stop=(name,))).result()


def test_names_are_cut_and_so_is_a_list_of_them() -> None:
    assert listed(["b", "a"]) == "a, b"
    assert listed([]) == "none"
    many = listed(f"{number:03}{'m' * LONG}" for number in range(100))
    assert many.startswith("'000mmm")
    assert many.endswith("... and 92 more")
    assert len(many) < 1000
    assert len(shown({"key": ["value"] * LONG})) == len(shown(b"b" * LONG)) == 80


class Talkative(generation_pb2_grpc.GenerationServiceServicer):
    """Says whatever it is told to."""

    error: PacelineError

    async def ListModels(
        self, request: generation_pb2.ListModelsRequest, context: object
    ) -> generation_pb2.ListModelsResponse:
        raise self.error

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: object
    ) -> generation_pb2.DetokenizeResponse:
        raise self.error

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: object
    ) -> generation_pb2.TokenizeResponse:
        raise self.error

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: object
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        yield generation_pb2.GenerateResponse()
        raise self.error


@pytest.fixture
async def talkative() -> AsyncIterator[tuple[Talkative, str]]:
    server = grpc.aio.server(
        interceptors=[CallInterceptor(RpcMetrics(CollectorRegistry()))],
        options=server_options(public=True),
    )
    servicer = Talkative()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(servers.ANY_PORT)
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.parametrize("text", [*NAMES.values(), "\ud800" * LONG, "🦭é%\n " * LONG])
async def test_any_error_comes_through_whole_or_cut(
    talkative: tuple[Talkative, str], text: str
) -> None:
    servicer, address = talkative
    async with Client(address, retries=0) as client:
        for error in (NotFound(text), ResourceExhausted(text, 2.5), InvalidArgument(text)):
            servicer.error = error
            with pytest.raises(type(error)) as raised:
                await client.models()
            assert str(raised.value) == message_of(text)
            assert len(str(raised.value)) > MESSAGE_BYTES / 16
            if isinstance(raised.value, ResourceExhausted):
                assert raised.value.retry_after == 2.5


def test_what_a_foreign_server_says_is_cut_too() -> None:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), trailing, "m" * LONG
    )
    found = from_rpc_error(error)
    assert isinstance(found, ResourceExhausted)
    assert found.retry_after is None
    assert len(str(found)) == MESSAGE_BYTES


async def test_metadata_is_taken_up_to_its_limit_and_never_beyond(
    talkative: tuple[Talkative, str],
) -> None:
    """Between gRPC's own two limits, 8 and 16 KiB here, some would pass and some not."""
    servicer, address = talkative
    servicer.error = NotFound("heard")
    async with open_channel(address) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        for size, code in (
            (MAX_METADATA_BYTES - 1024, grpc.StatusCode.NOT_FOUND),
            (MAX_METADATA_BYTES + 1024, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (MAX_METADATA_BYTES * 3 // 2, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            for _ in range(12):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await stub.ListModels(
                        generation_pb2.ListModelsRequest(), metadata=(("x-long", "v" * size),)
                    )
                assert raised.value.code() is code
