"""Pools over real servers: late ones, lost ones, and one at two addresses."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from orchestrator.backends import pool as pools
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import MISSES, Replica, least_loaded
from paceline.machine import describe_machine
from paceline.rpc import channels
from paceline.rpc.codec.model import machine_to_proto
from paceline.rpc.options import server_options
from paceline.v1 import model_pb2, model_pb2_grpc
from tests import servers

MODEL = model_pb2.ModelInfo(name="m", max_positions=8, vocabulary_size=8)
IN_TIME, LATE = 30.0, 0.05


class Server(model_pb2_grpc.ModelServiceServicer):
    """Answers as long as it may."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()

    async def GetModelInfo(
        self, request: model_pb2.GetModelInfoRequest, context: Any
    ) -> model_pb2.GetModelInfoResponse:
        await self.answers.wait()
        machine = machine_to_proto(describe_machine())
        return model_pb2.GetModelInfoResponse(model=MODEL, machine=machine)

    async def GetTokenizer(
        self, request: model_pb2.GetTokenizerRequest, context: Any
    ) -> AsyncIterator[model_pb2.GetTokenizerResponse]:
        yield model_pb2.GetTokenizerResponse()


@contextlib.asynccontextmanager
async def served(port: int = 0) -> AsyncIterator[tuple[Server, int]]:
    server, service = grpc.aio.server(options=server_options(public=False)), Server()
    model_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield service, port
    finally:
        service.answers.set()
        await server.stop(0)


async def poll(replica: Replica, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POLL_SECONDS", seconds)
    await replica.poll()


@pytest.mark.slow
async def test_a_server_that_is_late_now_and_then_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as (server, port), channels.open_channel(f"127.0.0.1:{port}") as channel:
        replica = Replica("it", channel)
        other = Replica("other", channel, sessions=5)
        await poll(replica, IN_TIME, monkeypatch)
        await poll(other, IN_TIME, monkeypatch)
        assert replica.ready
        assert least_loaded([other, replica]) is replica
        for _ in range(3):
            server.answers.clear()
            for _ in range(MISSES - 1):
                await poll(replica, LATE, monkeypatch)
                assert replica.ready
            assert least_loaded([other, replica]) is other
            server.answers.set()
            await poll(replica, IN_TIME, monkeypatch)
        server.answers.clear()
        for _ in range(MISSES):
            await poll(replica, LATE, monkeypatch)
        assert not replica.ready
        server.answers.set()
        await poll(replica, IN_TIME, monkeypatch)
        assert replica.ready


async def test_a_server_that_cannot_be_reached_is_lost_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as (_, port):
        replica = Replica("it", channels.open_channel(f"127.0.0.1:{port}"))
        await poll(replica, IN_TIME, monkeypatch)
        assert replica.ready
    await poll(replica, IN_TIME, monkeypatch)
    assert not replica.ready
    assert "onnect" in replica.health.reason
    await replica.channel.close()


async def test_a_connection_that_broke_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as (_, port):
        replica = Replica("it", channels.open_channel(f"127.0.0.1:{port}"))
        await poll(replica, IN_TIME, monkeypatch)
    async with served(port):
        await poll(replica, IN_TIME, monkeypatch)
        assert replica.ready
    await replica.channel.close()


def both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have localhost stand for both, IPv6 first, as on most machines."""

    async def getaddrinfo(host: str, port: str, **_: object) -> list[Any]:
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", int(port), 0, 0))
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))
        return [six, four]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::]"])
async def test_a_server_behind_a_name_of_both_families_is_one(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_families(monkeypatch)
    async with servers.draft(None, address=f"{host}:0") as server:
        port = server.address.rpartition(":")[2]
        pool = Pool([f"localhost:{port}"])
        watching = asyncio.create_task(pool.watch())

        async def found() -> bool:
            return bool(pool.ready) and len(pool.all) == 1

        await servers.eventually(found)
        [replica] = pool.all
        assert replica.address == ("127.0.0.1" if host == "[::]" else host) + f":{port}"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_servers_on_ipv6_are_found() -> None:
    async with servers.draft(None, address="[::1]:0") as draft:
        port = draft.address.rpartition(":")[2]
        async with (
            servers.target("simulated:step_ms=1") as target,
            servers.orchestrator([target.address], [f"[::1]:{port}"]) as client,
        ):
            status = await client.status()
    assert f"[::1]:{port}" in {server.address for server in status.servers}
