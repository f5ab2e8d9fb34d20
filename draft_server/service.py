"""DraftService: one stream, one session, one drafter in the engine."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import structlog

from draft_server.drafters.model import ModelDrafter
from draft_server.metrics import DraftMetrics
from paceline.engine.engine import Engine, EngineSession
from paceline.errors import InvalidArgument, Unavailable
from paceline.rpc.codec import (
    advance_from_proto,
    opened_to_proto,
    opening_from_proto,
    progress_to_proto,
    proposal_to_proto,
)
from paceline.rpc.deadline import remaining
from paceline.rpc.session_stream import Outbox, first_message, read_into
from paceline.session import ModelInfo, Opened, Progress, Proposal
from paceline.v1 import draft_pb2, draft_pb2_grpc

_log = structlog.get_logger(__name__)


class DraftService(draft_pb2_grpc.DraftServiceServicer):
    """Drafts ahead on an engine that others may share."""

    def __init__(
        self,
        engine: Engine,
        model: ModelInfo,
        metrics: DraftMetrics,
        draining: Callable[[], bool],
    ) -> None:
        """The engine runs already; `draining` is asked before a session opens."""
        self._engine = engine
        self._model = model
        self._metrics = metrics
        self._draining = draining

    async def Draft(
        self,
        request_iterator: AsyncIterator[draft_pb2.DraftRequest],
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[draft_pb2.DraftResponse]:
        """One session, from Open to the end of the stream."""
        if self._draining():
            raise Unavailable("the draft is draining")
        first = await first_message(request_iterator, "open", remaining(context))
        if first.WhichOneof("message") != "open":
            raise InvalidArgument("the first message must be open")
        opening = opening_from_proto(first.open, self._model)
        outbox: Outbox[Proposal] = Outbox()
        drafter = ModelDrafter(opening, outbox.deliver)
        session = self._engine.open(drafter, opening.max_length)
        _log.debug("session opened", prompt_tokens=len(opening.prompt_token_ids))

        def handle(request: draft_pb2.DraftRequest) -> None:
            if request.WhichOneof("message") != "advance":
                raise InvalidArgument("only advance may follow open")
            drafter.advance(advance_from_proto(request.advance, self._model.vocabulary_size))
            self._engine.wake()

        reader = asyncio.create_task(read_into(request_iterator, handle, outbox))
        try:
            opened = Opened(self._model.fingerprint, session.cached_tokens)
            yield draft_pb2.DraftResponse(opened=opened_to_proto(opened))
            async for proposal in outbox.items():
                yield self._response(session, proposal)
        finally:
            reader.cancel()
            self._engine.close(session)

    def _response(
        self, session: EngineSession, proposal: Proposal | None
    ) -> draft_pb2.DraftResponse:
        if proposal is None:
            progress = Progress(self._engine.steps, session.cache.length, self._engine.load)
            return draft_pb2.DraftResponse(progress=progress_to_proto(progress))
        self._metrics.observe(proposal)
        return draft_pb2.DraftResponse(proposal=proposal_to_proto(proposal))
