"""Who is asked: an orchestrator, or what answers in its place."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from paceline.client import Client
from paceline.client.addresses import orchestrators
from paceline.errors import FailedPrecondition, PacelineError, Unavailable, Unimplemented
from paceline.rpc.channels import open_channel
from paceline.settings import ORCHESTRATOR_PORT

ASK_SECONDS = 5.0
_SERVICES = {
    "paceline.v1.GenerationService": "is the health port of an orchestrator",
    "paceline.v1.TargetService": "is a target server",
    "paceline.v1.DraftService": "is a draft server",
}
_HTTP = "http1.x server"
"""gRPC says so of a server that speaks no HTTP/2."""


@contextlib.asynccontextmanager
async def asking(address: str, **how: Any) -> AsyncIterator[Client]:
    """A client of the orchestrator; FailedPrecondition where something else answers there.

    how: what else Client takes.
    """
    async with Client(address, **how) as client:
        try:
            yield client
        except (Unimplemented, Unavailable) as error:
            if (instead := await answers_instead(address, error)) is None:
                raise
            raise FailedPrecondition(instead) from error


async def answers_instead(address: str, error: PacelineError) -> str | None:
    """What answers at an address that is no orchestrator's; None where that is not why it fails."""
    if isinstance(error, Unimplemented):
        what = await _server_at(address)
    elif _HTTP in str(error):
        what = "speaks HTTP/1 and no gRPC, as metrics ports do"
    else:
        return None
    return f"{address} {what}; the orchestrator is asked, usually at port {ORCHESTRATOR_PORT}"


async def _server_at(address: str) -> str:
    """What a server of ours is there, by the services whose health it tells."""
    where = orchestrators(address)
    if where.tls or len(where.targets) > 1:
        return "is another gRPC server"
    async with open_channel(where.targets[0]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service, what in _SERVICES.items():
            request = health_pb2.HealthCheckRequest(service=service)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Check(request, timeout=ASK_SECONDS)
                return what
    return "is another gRPC server"
