"""Networks as they are: slow, behind proxies, of two families."""

import asyncio
import contextlib
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from paceline.client import Client
from paceline.errors import Unavailable
from paceline.rpc.channels import open_channel
from tests import servers
from tests.contract.test_client import pump

LATE_SECONDS = 0.3


@contextlib.asynccontextmanager
async def slow(port: int) -> AsyncIterator[str]:
    """An address of `port` behind a network that takes its time for the first answer."""
    ends = contextlib.ExitStack()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ends.callback(writer.close)
        ends.callback(back.close)
        up = asyncio.create_task(pump(reader, back, 10**9))
        await asyncio.sleep(LATE_SECONDS)
        await pump(there, writer, 10**9)
        await up

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ends.close()
        server.close()


def port_of(client: Client) -> int:
    return int(client.address.rpartition(":")[2])


async def test_the_first_call_over_a_slow_network_succeeds() -> None:
    async with (
        servers.orchestrator_alone() as near,
        slow(port_of(near)) as address,
        Client(address, retries=0) as client,
    ):
        assert await client.models() == []


async def test_servers_over_a_slow_network_are_found() -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        slow(int(target.address.rpartition(":")[2])) as address,
        servers.orchestrator([address], []) as client,
    ):
        assert len(await client.models()) == 1


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy"])
async def test_a_proxy_of_the_web_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (name, name.upper()):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        assert len(await client.models()) == 1


async def test_a_client_goes_through_the_proxy_it_is_given() -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with (
        await asyncio.start_server(connect, "127.0.0.1", 0) as server,
        Client("far.example:7070", retries=0, proxy=_proxy(server)) as client,
    ):
        with pytest.raises(Unavailable):
            await client.models()
    assert (await asked.get()).startswith(b"CONNECT far.example:7070 HTTP/1.1")


def _proxy(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in found]


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
@pytest.mark.parametrize(
    ("flags", "hosts"),
    [
        (["--host=::1"], ["[::1]"]),
        (["--host=::", "--plaintext"], ["[::1]", "127.0.0.1"]),
        (["--host=0.0.0.0", "--plaintext"], ["[::1]", "127.0.0.1"]),
    ],
)
async def test_a_server_answers_at_all_its_ports_on_ipv6(
    flags: list[str], hosts: list[str]
) -> None:
    ports = dict(zip(("port", "health-port", "metrics-port"), free_ports(3), strict=True))
    command = [sys.executable, "-m", "orchestrator", "--target=unix:/nowhere", "--draft=", *flags]
    command += [f"--{name}={port}" for name, port in ports.items()]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        async for line in process.stderr:
            if b'"listening"' in line:
                break
        for host in hosts:
            async with Client(f"{host}:{ports['port']}", retries=0) as client:
                assert await client.models() == []
            async with open_channel(f"{host}:{ports['health-port']}") as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30.0)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert b"paceline" in await asyncio.to_thread(page, host, ports["metrics-port"])
    finally:
        process.terminate()
        await process.communicate()


def page(host: str, port: int) -> bytes:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30.0) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("taken", ["port", "health-port", "metrics-port"])
async def test_a_port_that_is_taken_is_named_and_nothing_else_is_said(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"port": 0, "health-port": 0, "metrics-port": 0, taken: other.getsockname()[1]}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator", "--host=127.0.0.1", "--target=unix:/nowhere"),
            *(f"--{name}={port}" for name, port in ports.items()),
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    lines = [line for line in err.decode().splitlines() if line.startswith("{")]
    assert process.returncode == 1
    [line] = [line for line in lines if '"error"' in line or '"critical"' in line]
    assert f"cannot listen on 127.0.0.1:{ports[taken]}" in line
