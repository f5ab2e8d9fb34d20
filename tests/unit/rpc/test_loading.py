"""Who calls a server while its model loads is told how far that is."""

import socket
from pathlib import Path

import pytest

from orchestrator.backends.replica import Replica
from paceline.protocol.status import LOADING
from paceline.rpc.channels import open_channel
from paceline.rpc.loading import saying_so
from paceline.rpc.tls import ClientTls, ServerTls
from tests.certificates import authority


async def reason(address: str, tls: ClientTls | None = None) -> str:
    replica = Replica(address, open_channel(address, tls=tls, name="localhost"))
    await replica.poll()
    await replica.channel.close()
    if replica.health.reason.startswith(LOADING):
        assert replica.hindrance == f"{address}: it is {replica.health.reason}"
    return replica.health.reason


async def test_a_server_that_loads_says_how_far_it_is(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'socket'}"
    async with saying_so(address, lambda: "reading weights, 43 %"):
        assert await reason(address) == f"{LOADING}reading weights, 43 %"
    assert LOADING not in await reason(address)


async def test_it_says_so_over_tls_where_calls_will_be(tmp_path: Path) -> None:
    signer = authority(tmp_path)
    identity = signer.issue("localhost")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with saying_so(address, lambda: "x", ServerTls(identity, signer.path)):
        assert await reason(address, ClientTls(signer.path, identity)) == f"{LOADING}x"
        assert LOADING not in await reason(address, ClientTls(signer.path))  # shows none itself
        assert LOADING not in await reason(address)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:/nowhere/x"])
async def test_where_it_cannot_be_asked_nothing_is_said(address: str) -> None:
    async with saying_so(address, lambda: "x"), saying_so("unix:/nowhere/y", None):
        pass
