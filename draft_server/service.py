"""DraftService: one stream, one session, one drafter in the engine."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from draft_server.drafters.model import ModelDrafter
from draft_server.metrics import DraftMetrics
from paceline.engine_server import EngineServer
from paceline.errors import InvalidArgument
from paceline.rpc.codec import (
    advance_from_proto,
    opened_to_proto,
    progress_to_proto,
    proposal_to_proto,
)
from paceline.session import Opened, Progress, Proposal
from paceline.v1 import draft_pb2, draft_pb2_grpc


class DraftServer(EngineServer):
    """The engine and the services on it."""

    def register_service(self, server: grpc.aio.Server) -> None:
        """Add DraftService."""
        service = DraftService(self, DraftMetrics(self.registry))
        draft_pb2_grpc.add_DraftServiceServicer_to_server(service, server)


class DraftService(draft_pb2_grpc.DraftServiceServicer):
    """Drafts ahead."""

    def __init__(self, server: EngineServer, metrics: DraftMetrics) -> None:
        """Work on the server's engine."""
        self._server = server
        self._metrics = metrics

    async def Draft(
        self,
        request_iterator: AsyncIterator[draft_pb2.DraftRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[draft_pb2.DraftResponse]:
        """One session, from Open to the end of the stream."""
        session = self._server.run_session(request_iterator, context, ModelDrafter, self._post)
        async with contextlib.aclosing(session):
            async for value in session:
                yield self._response(value)

    def _post(self, drafter: ModelDrafter, request: draft_pb2.DraftRequest) -> None:
        if request.WhichOneof("message") != "advance":
            raise InvalidArgument("only advance may follow open")
        vocabulary_size = self._server.model.vocabulary_size
        drafter.advance(advance_from_proto(request.advance, vocabulary_size))

    def _response(self, value: Opened | Proposal | Progress) -> draft_pb2.DraftResponse:
        if isinstance(value, Opened):
            return draft_pb2.DraftResponse(opened=opened_to_proto(value))
        if isinstance(value, Progress):
            return draft_pb2.DraftResponse(progress=progress_to_proto(value))
        self._metrics.observe(value)
        return draft_pb2.DraftResponse(proposal=proposal_to_proto(value))
