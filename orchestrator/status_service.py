"""StatusService: what this orchestrator knows of itself and of the servers it draws on."""

import grpc

from orchestrator.choices import Choices
from orchestrator.pools import Pool, Replica
from orchestrator.record import DraftRecord
from paceline.machine import describe_machine
from paceline.rpc.codec import machine_to_proto
from paceline.rpc.status_codec import drafting_to_proto, server_to_proto, totals_to_proto
from paceline.status import Drafting, Role, Server
from paceline.v1 import status_pb2, status_pb2_grpc


class StatusService(status_pb2_grpc.StatusServiceServicer):
    """Answers from what the pools were told last; asks nobody."""

    def __init__(self, targets: Pool, drafts: Pool, choices: Choices) -> None:
        """The pools are watched by somebody else; `choices` runs the streams."""
        self._choices = choices
        self._targets = targets
        self._drafts = drafts

    async def GetStatus(
        self,
        request: status_pb2.GetStatusRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> status_pb2.GetStatusResponse:
        """The orchestrator, then its targets, then its drafts."""
        servers = [_server(Role.TARGET, replica) for replica in self._targets.all]
        servers += [_server(Role.DRAFT, replica) for replica in self._drafts.all]
        return status_pb2.GetStatusResponse(
            machine=machine_to_proto(describe_machine()),
            servers=[server_to_proto(server) for server in servers],
            totals=totals_to_proto(self._choices.totals.value),
            drafting=drafting_to_proto(_drafting(self._choices.record)),
        )


def _drafting(record: DraftRecord) -> Drafting:
    return Drafting(
        acceptance_rate=record.calibration.mean.value,
        benched=record.benched,
        gain=record.gain,
        plain_seconds=record.plain_seconds(0),
        wait_seconds=record.wait(restart=False),
        restart_seconds=record.wait(restart=True),
    )


def _server(role: Role, replica: Replica) -> Server:
    return Server(
        role=role,
        address=replica.address,
        reachable=replica.reachable,
        reason=replica.reason,
        model=replica.model,
        load=replica.load,
        draining=replica.draining,
        machine=replica.machine,
        round_trip_seconds=replica.round_trip_seconds,
        clock_offset_seconds=replica.clock_offset_seconds,
    )
