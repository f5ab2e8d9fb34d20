"""StatusService's messages to and from the plain values of paceline.status: pure."""

from dataclasses import asdict, fields

from paceline.rpc.codec import (
    load_from_proto,
    load_to_proto,
    machine_from_proto,
    machine_to_proto,
    model_info_from_proto,
    model_info_to_proto,
)
from paceline.status import Drafting, Role, Server, Status, Totals
from paceline.v1 import status_pb2 as pb

_ROLE = {Role.TARGET: pb.ROLE_TARGET, Role.DRAFT: pb.ROLE_DRAFT}
_ROLE_OF = {number: role for role, number in _ROLE.items()}


def server_to_proto(server: Server) -> pb.Server:
    """paceline.v1.Server."""
    return pb.Server(
        role=_ROLE[server.role],
        address=server.address,
        reachable=server.reachable,
        reason=server.reason,
        model=model_info_to_proto(server.model) if server.model else None,
        load=load_to_proto(server.load),
        draining=server.draining,
        machine=machine_to_proto(server.machine) if server.machine else None,
        round_trip_seconds=server.round_trip_seconds,
        clock_offset_seconds=server.clock_offset_seconds,
    )


def status_from_proto(message: pb.GetStatusResponse) -> Status:
    """paceline.v1.GetStatusResponse."""
    servers = tuple(_server_from_proto(server) for server in message.servers)
    return Status(
        machine_from_proto(message.machine),
        servers,
        Totals(**{field.name: getattr(message.totals, field.name) for field in fields(Totals)}),
        _drafting_from_proto(message.drafting),
    )


def totals_to_proto(totals: Totals) -> pb.Totals:
    """paceline.v1.Totals."""
    return pb.Totals(**asdict(totals))


def drafting_to_proto(drafting: Drafting) -> pb.Drafting:
    """paceline.v1.Drafting."""
    return pb.Drafting(**asdict(drafting))


def _drafting_from_proto(message: pb.Drafting) -> Drafting:
    def known(name: str) -> float | None:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]

    return Drafting(
        acceptance_rate=message.acceptance_rate,
        benched=message.benched,
        gain=known("gain"),
        plain_seconds=known("plain_seconds"),
        wait_seconds=known("wait_seconds"),
        restart_seconds=known("restart_seconds"),
    )


def _server_from_proto(message: pb.Server) -> Server:
    return Server(
        role=_ROLE_OF[message.role],
        address=message.address,
        reachable=message.reachable,
        reason=message.reason,
        model=model_info_from_proto(message.model) if message.HasField("model") else None,
        load=load_from_proto(message.load),
        draining=message.draining,
        machine=machine_from_proto(message.machine) if message.HasField("machine") else None,
        round_trip_seconds=message.round_trip_seconds,
        clock_offset_seconds=message.clock_offset_seconds,
    )
