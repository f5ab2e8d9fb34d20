"""Who has a port that is wanted is named, as far as it says who it is."""

import asyncio
from pathlib import Path

from paceline.rpc.doors import Doors
from paceline.rpc.server import Health, RpcServer
from paceline.rpc.tls import ServerTls
from paceline_tools.listener import listener
from tests import servers
from tests.certificates import authority


async def test_a_target_says_its_role() -> None:
    async with servers.target("simulated:step_ms=1") as target:
        host, _, port = target.address.rpartition(":")
        assert await asyncio.to_thread(listener, host, int(port)) == "a target server of Paceline"


async def test_behind_tls_no_more_is_known(tmp_path: Path) -> None:
    tls = ServerTls(authority(tmp_path).issue("localhost"))
    server = RpcServer("127.0.0.1:0", registry=None, doors=Doors(tls))
    await server.start(Health(()).servicer, ())
    try:
        found = await asyncio.to_thread(listener, "127.0.0.1", server.port)
    finally:
        await server.grpc.stop(0)
    assert found == "a server that speaks TLS"


async def test_nobody_is_nobody() -> None:
    assert await asyncio.to_thread(listener, "127.0.0.1", 1) == ""
