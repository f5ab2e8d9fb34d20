"""What is said where something answers that is no orchestrator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from paceline.client import Client
from paceline.client.connections import Connection
from paceline.errors import FailedPrecondition, Unavailable, Unimplemented
from paceline.protocol.status import Status
from paceline_tools.cli.app import main
from paceline_tools.cli.asked import asking
from paceline_tools.cli.doctor import examine
from paceline_tools.cli.findings import Level
from paceline_tools.listener import near
from tests import servers

ASKED = "; the orchestrator is asked, usually at port 7070"
MODEL = "simulated:step_ms=1"
NO_GRPC = "speaks HTTP, and no gRPC, as the ports of metrics, page and gateway do"


async def result(client: Client) -> object:
    return await client.generate("x").result()


@pytest.mark.parametrize("ask", [Client.status, Client.models, result])
async def test_a_target_is_no_orchestrator(ask: Callable[[Client], Awaitable[object]]) -> None:
    async with servers.target(MODEL) as target:
        with pytest.raises(FailedPrecondition) as told:
            async with asking(target.address) as client:
                await ask(client)
    assert str(told.value) == f"{target.address} is a target server{ASKED}"


async def test_a_draft_is_none_either() -> None:
    async with servers.draft(MODEL) as draft:
        with pytest.raises(FailedPrecondition, match="is a draft server; the orchestrator"):
            async with asking(draft.address) as client:
                await client.status()


async def test_an_orchestrator_is_asked() -> None:
    async with servers.orchestrator_alone() as client, asking(client.address) as asked:
        assert isinstance(await asked.status(), Status)


async def test_the_doctor_says_so_too() -> None:
    async with servers.target(MODEL) as target:
        last = (await examine(target.address))[-1]
    assert last.level is Level.WRONG
    assert last.what == f"{target.address} is a target server{ASKED}"
    assert last.advice == "name the orchestrator with --address"


@pytest.mark.parametrize("command", ["status", "top", "chat", "generate hi"])
async def test_every_command_says_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with servers.target(MODEL) as target:
        arguments = [*command.split(), f"--address={target.address}"]
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, arguments)
    assert ended.value.code == 1
    assert f"{target.address} is a target server{ASKED}" in capsys.readouterr().err


@pytest.fixture
async def http() -> AsyncIterator[str]:
    """A server of HTTP/1, as that of metrics."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_metrics_port_speaks_no_grpc(http: str) -> None:
    with pytest.raises(FailedPrecondition) as told:
        async with asking(http) as client:
            await client.status()
    assert str(told.value) == f"{http} speaks HTTP, and no gRPC{ASKED}"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_metrics_port_is_named_as_that(name: str) -> None:
    registry = CollectorRegistry()
    Counter("paceline_streams", "Streams.", registry=registry)
    server, _ = start_http_server(0, "127.0.0.1", registry)
    address = f"{name}:{server.server_port}"
    try:
        with pytest.raises(FailedPrecondition) as told:
            async with asking(address) as client:
                await client.status()
    finally:
        server.shutdown()
        server.server_close()
    assert str(told.value) == f"{address} speaks HTTP (metrics of Paceline), and no gRPC{ASKED}"


@pytest.mark.parametrize("ask", [Client.models, result])
async def test_a_client_says_so_itself(
    ask: Callable[[Client], Awaitable[object]], http: str
) -> None:
    told = "; the orchestrator is asked, at port 7070 unless told otherwise"
    async with servers.target(MODEL) as target:
        with pytest.raises(Unimplemented) as raised:
            async with Client(target.address, retries=0) as client:
                await ask(client)
    there = "a health port, a target, a draft or an older orchestrator answers there"
    assert str(raised.value) == f"{target.address} does not serve that: {there}{told}"
    with pytest.raises(Unavailable) as unavailable:
        async with Client(http, retries=0) as client:
            await ask(client)
    assert str(unavailable.value) == f"{http} {NO_GRPC}{told}"


def test_a_gateway_of_http_2_is_no_orchestrator_either() -> None:
    connection: Any = Connection("here:1", "here:1", Any, False, Any, Any)  # type: ignore[arg-type]
    empty, code = grpc.aio.Metadata(), grpc.StatusCode.UNIMPLEMENTED
    for said, told in (
        ("Received http2 header with status: 404", f"here:1 {NO_GRPC}; the orchestrator is asked"),
        ("a feature", "a feature"),
    ):
        error = connection.error(grpc.aio.AioRpcError(code, empty, empty, said))
        assert isinstance(error, Unimplemented)
        assert str(error).startswith(told)


def test_where_the_orchestrator_may_be_is_behind_the_ports_that_lie_above_it() -> None:
    for above in (100, 200, 101, 203, 300, 1000, 1200):
        assert "here:17070" in list(near(f"here:{17070 + above}"))
    assert list(near("here:7270"))[:2] == ["here:7070", "here:7170"]
    assert list(near("[::1]:80")) == ["[::1]:7070"]
    assert list(near("unix:/x")) == []
