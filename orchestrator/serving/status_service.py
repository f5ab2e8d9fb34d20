"""StatusService: what this orchestrator knows of itself and of the servers it draws on."""

import grpc

from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import Replica
from orchestrator.serving.totals import RunningTotals
from paceline.machine import describe_machine
from paceline.protocol import status
from paceline.protocol.status import Role, Server
from paceline.rpc.codec.model import machine_to_proto
from paceline.rpc.codec.status import draft_pool_to_proto, server_to_proto, totals_to_proto
from paceline.v1 import status_pb2, status_pb2_grpc


class StatusService(status_pb2_grpc.StatusServiceServicer):
    """Answers from what the pools were told last; asks nobody."""

    def __init__(self, targets: Pool, drafts: DraftRouter, totals: RunningTotals) -> None:
        """The pools are watched by somebody else; `totals` counts the streams."""
        self._totals = totals
        self._targets = targets
        self._drafts = drafts

    async def GetStatus(
        self,
        request: status_pb2.GetStatusRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> status_pb2.GetStatusResponse:
        """The orchestrator, then its targets, then its drafts."""
        servers = [_server(Role.TARGET, replica) for replica in self._targets.all]
        for pool in self._drafts.pools:
            servers += [_server(Role.DRAFT, replica, pool.name) for replica in pool.all]
        pools = [_pool(pool, self._drafts) for pool in self._drafts.pools]
        return status_pb2.GetStatusResponse(
            machine=machine_to_proto(describe_machine()),
            servers=[server_to_proto(server) for server in servers],
            totals=totals_to_proto(self._totals.value),
            draft_pools=[draft_pool_to_proto(pool) for pool in pools],
        )


def _pool(pool: DraftPool, drafts: DraftRouter) -> status.DraftPoolStatus:
    measurements, counts = pool.measurements, pool.counts
    state, reason = drafts.standing(pool)
    return status.DraftPoolStatus(
        name=pool.name,
        addresses=pool.addresses,
        replicas=len(pool.all),
        replicas_ready=len(pool.ready),
        state=state,
        reason=reason,
        acceptance_rate=measurements.recent.acceptance_rate,
        acceptance_by_position=measurements.recent.acceptance_by_position,
        speedup=measurements.speedup,
        counts=status.DraftPoolCounts(
            streams=counts.streams,
            running=counts.running,
            drafted=counts.drafted.total(),
            verified=counts.verified,
            accepted=counts.accepted,
            wasted=counts.wasted,
        ),
        times=status.DraftPoolTimes(
            decode_step_seconds=measurements.decode_step_seconds(0),
            next_token_seconds=measurements.wait(restart=False),
            restart_seconds=measurements.wait(restart=True),
        ),
    )


def _server(role: Role, replica: Replica, pool: str = "") -> Server:
    return Server(
        role=role,
        address=replica.address,
        reachable=replica.reachable,
        reason=replica.health.reason,
        model=replica.model,
        load=replica.load,
        draining=replica.health.draining,
        machine=replica.machine,
        round_trip_seconds=replica.round_trip_seconds,
        clock_offset_seconds=replica.clock_offset_seconds,
        pool=pool,
        vocabulary=replica.vocabulary,
        wrong_vocabulary=replica.wrong_vocabulary,
    )
