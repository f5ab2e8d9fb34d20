"""DraftService: one stream, one session, one drafter in the engine."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import structlog
from prometheus_client import CollectorRegistry

from draft_server.drafters.base import StreamDrafter
from draft_server.drafters.registry import DRAFTERS
from draft_server.metrics import DraftMetrics
from draft_server.prompt_lookup import RecentOutputs
from draft_server.session import DraftStream
from draft_server.traces import observing
from paceline.best_effort import best_effort
from paceline.engine.interfaces import StartedEngine
from paceline.engine.sampling.matcher import Grammar
from paceline.engine_server.server import EngineServer
from paceline.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from paceline.protocol.advance import Advance
from paceline.protocol.features import VOCABULARY_MAP
from paceline.protocol.proposal import Proposal, joined
from paceline.protocol.session import Opened, Opening, Progress
from paceline.rpc.codec.advance import advance_from_proto
from paceline.rpc.codec.proposal import proposal_to_proto
from paceline.rpc.codec.session import opened_to_proto, progress_to_proto
from paceline.rpc.interceptors import CallInterceptor
from paceline.rpc.multiplex.service import SharedService
from paceline.rpc.server import RpcServer
from paceline.v1 import draft_pb2, draft_pb2_grpc

_log = structlog.get_logger(__name__)

DRAFT = "/paceline.v1.DraftService/Draft"
Requests = AsyncIterator[draft_pb2.DraftRequest]
Together = tuple[Proposal, ...]


class DraftServer(EngineServer):
    """The engine and the services on it."""

    def __init__(self, started: StartedEngine, registry: CollectorRegistry, drafter: str) -> None:
        """Own the engine; `drafter` is as in the settings."""
        features = (*started.model.features, VOCABULARY_MAP)
        model = dataclasses.replace(started.model, features=features)
        super().__init__(dataclasses.replace(started, model=model), registry)
        self._drafter = drafter

    async def grammar(self, opening: Opening) -> Grammar | None:
        """As the target's; None where the draft cannot hold to it: what it drafts is advice."""
        if opening.vocabulary is not None:  # the tokens are not the draft's
            return None
        try:
            return await super().grammar(opening)
        except (InvalidArgument, FailedPrecondition, ResourceExhausted) as error:
            _log.info("drafting without the constraint", reason=str(error))
            return None

    def register_service(self, server: RpcServer) -> None:
        """Add DraftService."""
        service = DraftService(self, self._drafter, DraftMetrics(self.registry), server.calls)
        draft_pb2_grpc.add_DraftServiceServicer_to_server(service, server.grpc)


def draft_server(drafter: str) -> Callable[[StartedEngine, CollectorRegistry], DraftServer]:
    """What makes a server with such a drafter."""
    return lambda started, registry: DraftServer(started, registry, drafter)


class DraftService(draft_pb2_grpc.DraftServiceServicer):
    """Drafts ahead of targets."""

    def __init__(
        self, server: EngineServer, drafter: str, metrics: DraftMetrics, calls: CallInterceptor
    ) -> None:
        """Work on the server's engine. calls: wraps the sessions of shared calls."""
        self._server = server
        self._make = DRAFTERS[drafter].load()
        self._metrics = metrics
        self._session = calls.streaming(self.Draft, DRAFT)
        self._recent = RecentOutputs()

    async def Draft(
        self, request_iterator: Requests, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[draft_pb2.DraftResponse]:
        """One session, from Open to the end of the stream."""
        stream = DraftStream(self._server.engine, self._make, self._recent, self._metrics)

        def post(drafter: StreamDrafter, request: draft_pb2.DraftRequest) -> tuple[float, ...]:
            advance = self._advance(drafter, request)
            drafter.advance(advance)
            return advance.due_seconds

        try:
            with observing(self._metrics.observe, post) as (observe, noted_post):
                session = self._server.run_session(
                    request_iterator,
                    context,
                    stream.open,
                    noted_post,
                    _together,
                    _more_to_come,
                    lambda drafter: drafter.owes,
                )
                async with contextlib.aclosing(session):
                    async for value in session:
                        yield _response(value, observe)
        finally:
            stream.close()

    def DraftShared(
        self,
        request_iterator: AsyncIterator[draft_pb2.DraftSharedRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[draft_pb2.DraftSharedResponse]:
        """Sessions that share a call, to its end."""
        types = draft_pb2.DraftResponse, draft_pb2.DraftSharedResponse
        return SharedService(self._session, *types).messages(request_iterator)

    def _advance(self, drafter: StreamDrafter, request: draft_pb2.DraftRequest) -> Advance:
        if request.WhichOneof("message") != "advance":
            raise InvalidArgument("only advance may follow open")
        vocabulary = drafter.ahead.vocabulary
        size = vocabulary.size if vocabulary else self._server.model.vocabulary_size
        return advance_from_proto(request.advance, size)


def _response(
    value: Opened | Together | Progress, observe: Callable[[Together], None]
) -> draft_pb2.DraftResponse:
    if isinstance(value, Opened):
        return draft_pb2.DraftResponse(opened=opened_to_proto(value))
    if isinstance(value, Progress):
        return draft_pb2.DraftResponse(progress=progress_to_proto(value))
    with best_effort("metrics"):
        observe(value)
    proposals = [proposal_to_proto(proposal) for proposal in value]
    return draft_pb2.DraftResponse(proposals=draft_pb2.Proposals(proposals=proposals))


def _together(proposals: list[Proposal]) -> list[Together]:
    """All that wait, as one message."""
    return [tuple(joined(proposals))] if proposals else []


def _more_to_come(drafter: StreamDrafter) -> bool:
    """Whether what was drafted had better wait for more, until it is due."""
    ahead = drafter.ahead
    return (ahead.wanted > 0 or ahead.has_branches) and not ahead.awaited.take()
