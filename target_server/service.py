"""TargetService: one stream, one session, one Verification in the engine."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import structlog

from paceline.engine.engine import Engine, EngineSession
from paceline.errors import InvalidArgument, Unavailable
from paceline.rpc.codec import (
    opened_to_proto,
    opening_from_proto,
    progress_to_proto,
    verdict_to_proto,
    verify_from_proto,
)
from paceline.rpc.deadline import remaining
from paceline.rpc.session_stream import Outbox, first_message, read_into
from paceline.session import ModelInfo, Opened, Progress, Verdict
from paceline.v1 import target_pb2, target_pb2_grpc
from target_server.metrics import TargetMetrics
from target_server.verification import Verification

_log = structlog.get_logger(__name__)


class TargetService(target_pb2_grpc.TargetServiceServicer):
    """Verifies proposals on an engine that others may share."""

    def __init__(
        self,
        engine: Engine,
        model: ModelInfo,
        metrics: TargetMetrics,
        draining: Callable[[], bool],
    ) -> None:
        """The engine runs already; `draining` is asked before a session opens."""
        self._engine = engine
        self._model = model
        self._metrics = metrics
        self._draining = draining

    async def Verify(
        self,
        request_iterator: AsyncIterator[target_pb2.VerifyRequest],
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[target_pb2.VerifyResponse]:
        """One session, from Open to the end of the stream."""
        if self._draining():
            raise Unavailable("the target is draining")
        first = await first_message(request_iterator, "open", remaining(context))
        if first.WhichOneof("message") != "open":
            raise InvalidArgument("the first message must be open")
        opening = opening_from_proto(first.open, self._model)
        outbox: Outbox[Verdict] = Outbox()
        verification = Verification(opening, outbox.deliver)
        resumes = bool(opening.output_token_ids)
        session = self._engine.open(verification, opening.max_length, resumes=resumes)
        _log.debug("session opened", resumes=resumes)

        def handle(request: target_pb2.VerifyRequest) -> None:
            if request.WhichOneof("message") != "verify":
                raise InvalidArgument("only verify may follow open")
            verification.ask(verify_from_proto(request.verify, self._model))
            self._engine.wake()

        reader = asyncio.create_task(read_into(request_iterator, handle, outbox))
        try:
            opened = Opened(self._model.fingerprint, session.cached_tokens)
            yield target_pb2.VerifyResponse(opened=opened_to_proto(opened))
            async for verdict in outbox.items():
                yield self._response(session, verdict)
        finally:
            reader.cancel()
            self._engine.close(session)

    def _response(
        self, session: EngineSession, verdict: Verdict | None
    ) -> target_pb2.VerifyResponse:
        if verdict is None:
            progress = Progress(self._engine.steps, session.cache.length, self._engine.load)
            return target_pb2.VerifyResponse(progress=progress_to_proto(progress))
        self._metrics.observe(verdict)
        return target_pb2.VerifyResponse(verdict=verdict_to_proto(verdict))
