"""StatusService's messages to and from the plain values of paceline.protocol.status: pure."""

from dataclasses import asdict, fields
from typing import Any, Literal

from paceline.protocol.status import (
    DraftPoolStatus,
    PoolState,
    Role,
    Server,
    Speedup,
    Status,
    Totals,
)
from paceline.rpc.codec.model import (
    machine_from_proto,
    machine_to_proto,
    model_info_from_proto,
    model_info_to_proto,
)
from paceline.rpc.codec.session import load_from_proto, load_to_proto
from paceline.v1 import status_pb2 as pb

_ROLE = {Role.TARGET: pb.ROLE_TARGET, Role.DRAFT: pb.ROLE_DRAFT}
_ROLE_OF = {number: role for role, number in _ROLE.items()}
_STATE = {
    PoolState.IN_USE: pb.DRAFT_POOL_STATE_IN_USE,
    PoolState.STANDBY: pb.DRAFT_POOL_STATE_STANDBY,
    PoolState.BENCHED: pb.DRAFT_POOL_STATE_BENCHED,
    PoolState.PROBING: pb.DRAFT_POOL_STATE_PROBING,
    PoolState.FULL: pb.DRAFT_POOL_STATE_FULL,
    PoolState.UNREACHABLE: pb.DRAFT_POOL_STATE_UNREACHABLE,
    PoolState.WRONG_VOCABULARY: pb.DRAFT_POOL_STATE_WRONG_VOCABULARY,
}
_STATE_OF = {number: state for state, number in _STATE.items()}
_OPTIONAL: tuple[
    Literal["acceptance_rate", "decode_step_seconds", "wait_seconds", "restart_seconds"], ...
] = ("acceptance_rate", "decode_step_seconds", "wait_seconds", "restart_seconds")


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
        pool=server.pool,
        vocabulary=server.vocabulary,
        wrong_vocabulary=server.wrong_vocabulary,
    )


def status_from_proto(message: pb.GetStatusResponse) -> Status:
    """paceline.v1.GetStatusResponse."""
    servers = tuple(_server_from_proto(server) for server in message.servers)
    return Status(
        machine_from_proto(message.machine),
        servers,
        Totals(**{field.name: getattr(message.totals, field.name) for field in fields(Totals)}),
        tuple(_draft_pool_from_proto(pool) for pool in message.draft_pools),
    )


def totals_to_proto(totals: Totals) -> pb.Totals:
    """paceline.v1.Totals."""
    return pb.Totals(**asdict(totals))


def draft_pool_to_proto(pool: DraftPoolStatus) -> pb.DraftPool:
    """paceline.v1.DraftPool."""
    speedup = pb.Speedup(**asdict(pool.speedup)) if pool.speedup else None
    return pb.DraftPool(**{**_fields(pool), "state": _STATE[pool.state], "speedup": speedup})


def _draft_pool_from_proto(message: pb.DraftPool) -> DraftPoolStatus:
    speedup = message.speedup
    found: dict[str, Any] = {
        field.name: getattr(message, field.name) for field in fields(DraftPoolStatus)
    }
    for name in _OPTIONAL:
        if not message.HasField(name):
            found[name] = None
    return DraftPoolStatus(
        **{
            **found,
            "addresses": tuple(message.addresses),
            "acceptance_by_position": tuple(message.acceptance_by_position),
            "state": _STATE_OF[message.state],
            "speedup": Speedup(speedup.value, speedup.low, speedup.high)
            if message.HasField("speedup")
            else None,
        }
    )


def _fields(value: DraftPoolStatus) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


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
        pool=message.pool,
        vocabulary=message.vocabulary,
        wrong_vocabulary=message.wrong_vocabulary,
    )
