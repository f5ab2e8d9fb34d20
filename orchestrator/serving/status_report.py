"""What the orchestrator knows of itself and of the servers it draws on, as values for any front."""

from itertools import chain

from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import Replica
from orchestrator.backends.shadow import Shadows
from orchestrator.serving.all_streams import AllStreams
from paceline.machine import describe_machine
from paceline.protocol.status import (
    DraftPoolCounts,
    DraftPoolStatus,
    DraftPoolTimes,
    Role,
    Server,
    Status,
    UnresolvedName,
)


def report(targets: Pool, drafts: DraftRouter, streams: AllStreams, shadows: Shadows) -> Status:
    """The orchestrator, then its targets, then its drafts, as they were told last."""
    servers = [_server(Role.TARGET, replica) for replica in targets.all]
    for pool in drafts.pools:
        servers += [_server(Role.DRAFT, replica, pool.name) for replica in pool.all]
    pools = tuple(_pool(pool, drafts) for pool in drafts.pools)
    unresolved = [_unresolved(Role.TARGET, targets)]
    unresolved += [_unresolved(Role.DRAFT, pool, pool.name) for pool in drafts.pools]
    return Status(
        describe_machine(),
        tuple(servers),
        streams.totals,
        pools,
        tuple(chain(*unresolved)),
        tuple(shadow.status for shadow in shadows.drafts),
    )


def _unresolved(role: Role, pool: Pool, name: str = "") -> list[UnresolvedName]:
    return [UnresolvedName(role, name, one, why) for one, why in pool.unresolved.items()]


def _pool(pool: DraftPool, drafts: DraftRouter) -> DraftPoolStatus:
    measurements, counts = pool.measurements, pool.counts
    state, reason = drafts.standing(pool)
    return DraftPoolStatus(
        name=pool.name,
        addresses=pool.addresses,
        replicas=len(pool.all),
        replicas_ready=len(pool.ready),
        state=state,
        reason=reason,
        acceptance_rate=measurements.recent.acceptance_rate,
        acceptance_by_position=measurements.recent.acceptance_by_position,
        speedup=measurements.speedup,
        counts=DraftPoolCounts(
            streams=counts.streams,
            running=counts.running,
            drafted=counts.drafted.total(),
            verified=counts.verified,
            accepted=counts.accepted,
            wasted=counts.wasted,
        ),
        times=DraftPoolTimes(
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
