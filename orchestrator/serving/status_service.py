"""The gRPC front of the status: StatusService's messages from the values of status_report.py."""

from collections.abc import Callable

import grpc

from paceline.protocol.status import Status
from paceline.rpc.codec.status import status_to_proto
from paceline.v1 import status_pb2, status_pb2_grpc


class StatusService(status_pb2_grpc.StatusServiceServicer):
    """Answers from what the pools were told last; asks no server."""

    def __init__(self, report: Callable[[], Status]) -> None:
        """report: makes the status."""
        self._report = report

    async def GetStatus(
        self,
        request: status_pb2.GetStatusRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> status_pb2.GetStatusResponse:
        """The orchestrator, then its targets, then its drafts."""
        return status_to_proto(self._report())
