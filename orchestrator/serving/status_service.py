"""The gRPC front of the status: StatusService's messages from the values of status_report.py."""

import grpc

from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.status_report import report
from paceline.rpc.codec.status import status_to_proto
from paceline.v1 import status_pb2, status_pb2_grpc


class StatusService(status_pb2_grpc.StatusServiceServicer):
    """Answers from what the pools were told last; asks no server."""

    def __init__(self, targets: Pool, drafts: DraftRouter, streams: AllStreams) -> None:
        """The pools are watched elsewhere."""
        self._targets = targets
        self._drafts = drafts
        self._streams = streams

    async def GetStatus(
        self,
        request: status_pb2.GetStatusRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> status_pb2.GetStatusResponse:
        """The orchestrator, then its targets, then its drafts."""
        return status_to_proto(report(self._targets, self._drafts, self._streams))
