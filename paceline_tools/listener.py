"""Who answers at a port: a server of ours by its role, or something that speaks HTTP."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from paceline.addresses import ANY_IPV4, join, split
from paceline.client import Client
from paceline.errors import PacelineError
from paceline.rpc.channels import open_channel, resolve
from paceline.settings import HEALTH_PORTS, METRICS_PORTS, ORCHESTRATOR_PORT, PAGE_PORTS

ASK_SECONDS = 2.0
_ROLES = {
    "paceline.v1.GenerationService": "orchestrator",
    "paceline.v1.TargetService": "target server",
    "paceline.v1.DraftService": "draft server",
}
_ANY = {ANY_IPV4: "127.0.0.1", "::": "::1", "[::]": "::1"}
_OURS = b"paceline_"
"""How names of our metrics begin."""
GATEWAY_PORTS = (1000, 1200)
"""Ports of the gateway of `up`, and of its metrics, are so far above the orchestrator's."""
NEAR_SERVERS = 4
"""So many servers of an `up` are thought of: ports of targets and drafts follow its own."""
_MOST_BYTES = 200_000


def listener(host: str, port: int) -> str:
    """Who of ours listens at a port of this machine, as `an orchestrator of Paceline`; or empty.

    Takes as long as an answer does, ASK_SECONDS for each question at most.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _listener(join(_ANY.get(host, host), port))).result()


async def _listener(address: str) -> str:
    if names := await models(address):
        return f"an orchestrator of Paceline that serves {', '.join(names)}"
    if role := await role_at(address):
        return f"{'an' if role[0] in 'aeiou' else 'a'} {role} of Paceline"
    if what := await http_at(address):
        return "a server of Paceline, for metrics" if "metrics" in what else ""
    return await tls_at(address)


async def models(address: str) -> list[str]:
    """The models of an orchestrator there; none where there is no orchestrator, or no target."""
    try:
        async with asyncio.timeout(ASK_SECONDS), Client(address, retries=0) as client:
            return [model.name for model in await client.models()]
    except (PacelineError, TimeoutError):
        return []


async def role_at(address: str) -> str:
    """The role of a server of ours there, by the services whose health it tells; or empty."""
    async with open_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service, role in _ROLES.items():
            request = health_pb2.HealthCheckRequest(service=service)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Check(request, timeout=ASK_SECONDS)
                return role
    return ""


async def http_at(address: str) -> str:
    """What of HTTP is spoken at any of the addresses that host:port stands for; or empty."""
    if address.startswith("unix:"):
        return ""
    try:
        found = await resolve(address)
    except PacelineError:
        return ""
    answers = await asyncio.gather(*(asyncio.to_thread(_http, one) for one in found))
    return next(filter(None, answers), "")


def _http(address: str) -> str:
    host, port = split(address)
    connection = HTTPConnection(host, int(port), timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(_MOST_BYTES)
    except (OSError, HTTPException, ValueError):
        return ""
    finally:
        connection.close()
    return "HTTP (metrics of Paceline)" if _OURS in text else "HTTP"


async def tls_at(address: str) -> str:
    """What speaks TLS there, whoever it is: without a certificate it tells no more; or empty."""
    if address.startswith("unix:"):
        return ""
    host, port = split(address)
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    anyone.set_alpn_protocols(["h2", "http/1.1"])
    with contextlib.suppress(OSError, TimeoutError):  # ssl.SSLError too
        async with asyncio.timeout(ASK_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port), ssl=anyone)
            writer.close()
            return "a server that speaks TLS"
    return ""


async def orchestrator_near(address: str) -> str:
    """Where the orchestrator is whose other port was asked, as far as it can be found; or empty."""
    candidates = list(dict.fromkeys(near(address)))
    served = await asyncio.gather(*map(models, candidates))
    return next((one for one, names in zip(candidates, served, strict=True) if names), "")


def near(address: str) -> Iterator[str]:
    """Where it would be, were this one of the other ports of `up`."""
    if address.startswith("unix:"):
        return
    host, port = split(address)
    above = (at + offset for at in range(NEAR_SERVERS) for offset in (METRICS_PORTS, HEALTH_PORTS))
    behind = (int(port) - one for one in (*above, PAGE_PORTS, *GATEWAY_PORTS))
    for candidate in (*behind, ORCHESTRATOR_PORT):
        if candidate > 0:
            yield join(host, candidate)
