"""Asks a server for its health, for HEALTHCHECK of an image: `python -m paceline.health target`.

Imports little, as it runs every few seconds beside a server.
"""

import argparse
import os
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from paceline.addresses import ANY_IPV4, join

SECONDS = 2.0
ROLES = {
    "orchestrator": ("paceline.v1.GenerationService", 7170),
    "target": ("paceline.v1.TargetService", 7171),
    "draft": ("paceline.v1.DraftService", 7172),
}
"""The service that tells whether it is ready, and the port for health, as its settings have it."""
_ANY = {ANY_IPV4: "127.0.0.1", "::": "::1", "[::]": "::1"}
_STATUS = """exit status:
  0 it serves; 1 it does not, or does not answer; 2 a flag cannot be right"""


def address_of(role: str) -> str:
    """Where the server of a role on this machine tells its health, by its environment variables."""
    prefix = f"PACELINE_{role.upper()}_"
    host = os.environ.get(f"{prefix}HOST", "127.0.0.1")
    return join(_ANY.get(host, host), int(os.environ.get(f"{prefix}HEALTH_PORT", ROLES[role][1])))


def health(address: str, service: str, seconds: float) -> str:
    """SERVING, NOT_SERVING or SERVICE_UNKNOWN of `service`, or gRPC's code of a call that failed.

    address: of the port for health, which is plaintext. service: "" for the whole process.
    """
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=seconds)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: list[str] | None = None) -> int:
    """Print a server's health on one line; 0 where it serves."""
    parser = argparse.ArgumentParser(
        prog="python -m paceline.health",
        description="Ask a server whether it is alive, or with --ready whether it can be used.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("role", choices=ROLES, help="what the server is")
    parser.add_argument("--ready", action="store_true", help="ask whether it is ready, too")
    parser.add_argument(
        "--address",
        help="host:port of its health. Unless given: on this machine, as the environment variables "
        "of that server say.",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long to wait (default: %(default)g)"
    )
    options = parser.parse_args(arguments)
    address = options.address or address_of(options.role)
    found = health(address, ROLES[options.role][0] if options.ready else "", options.seconds)
    print(f"{options.role} at {address}: {found}")  # noqa: T201 - what it is for
    return int(found != "SERVING")


if __name__ == "__main__":
    sys.exit(main())
