"""StatusService's messages to and from the plain values of paceline.protocol.status: pure."""

from dataclasses import asdict
from typing import Any

from google.protobuf.message import Message

from paceline.protocol.status import (
    DraftPoolCounts,
    DraftPoolStatus,
    DraftPoolTimes,
    Interval,
    PoolState,
    Role,
    Server,
    Shadow,
    ShadowCounts,
    ShadowTimes,
    Speedup,
    Status,
    Totals,
    UnresolvedName,
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


def status_to_proto(status: Status) -> pb.GetStatusResponse:
    """paceline.v1.GetStatusResponse."""
    return pb.GetStatusResponse(
        machine=machine_to_proto(status.machine),
        servers=[_server_to_proto(server) for server in status.servers],
        totals=pb.Totals(**asdict(status.totals)),
        draft_pools=[_draft_pool_to_proto(pool) for pool in status.draft_pools],
        unresolved=[
            pb.UnresolvedName(role=_ROLE[one.role], pool=one.pool, name=one.name, reason=one.reason)
            for one in status.unresolved
        ],
        shadows=[pb.Shadow(**asdict(one)) for one in status.shadows],
    )


def _server_to_proto(server: Server) -> pb.Server:
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
        Totals(**_values(message.totals)),
        tuple(_draft_pool_from_proto(pool) for pool in message.draft_pools),
        tuple(
            UnresolvedName(_ROLE_OF[one.role], one.pool, one.name, one.reason)
            for one in message.unresolved
        ),
        tuple(_shadow_from_proto(one) for one in message.shadows),
    )


def _draft_pool_to_proto(pool: DraftPoolStatus) -> pb.DraftPool:
    return pb.DraftPool(
        name=pool.name,
        addresses=pool.addresses,
        replicas=pool.replicas,
        replicas_ready=pool.replicas_ready,
        state=_STATE[pool.state],
        reason=pool.reason,
        acceptance_rate=pool.acceptance_rate,
        acceptance_by_position=pool.acceptance_by_position,
        speedup=pb.Speedup(**asdict(pool.speedup)) if pool.speedup else None,
        counts=pb.DraftPoolCounts(**asdict(pool.counts)),
        times=pb.DraftPoolTimes(**asdict(pool.times)),
    )


def _draft_pool_from_proto(message: pb.DraftPool) -> DraftPoolStatus:
    known = message.HasField("acceptance_rate")
    return DraftPoolStatus(
        name=message.name,
        addresses=tuple(message.addresses),
        replicas=message.replicas,
        replicas_ready=message.replicas_ready,
        state=_STATE_OF[message.state],
        reason=message.reason,
        acceptance_rate=message.acceptance_rate if known else None,
        acceptance_by_position=tuple(message.acceptance_by_position),
        speedup=Speedup(**_values(message.speedup)) if message.HasField("speedup") else None,
        counts=DraftPoolCounts(**_values(message.counts)),
        times=DraftPoolTimes(**_values(message.times)),
    )


def _shadow_from_proto(message: pb.Shadow) -> Shadow:
    values = _values(message)
    known = message.HasField("acceptance")
    values |= {
        "addresses": tuple(message.addresses),
        "counts": ShadowCounts(**_values(message.counts)),
        "times": ShadowTimes(**_values(message.times)),
        "acceptance": Interval(**_values(message.acceptance)) if known else None,
    }
    return Shadow(**values)


def _values(message: Message) -> dict[str, Any]:
    """Numbers of a message by name; None for one that is optional and not set."""
    return {
        field.name: getattr(message, field.name)
        if not field.has_presence or message.HasField(field.name)
        else None
        for field in message.DESCRIPTOR.fields
    }


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
