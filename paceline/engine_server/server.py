"""A server that owns an engine: what draft and target servers share of services and sessions."""

import asyncio
import contextlib
import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from paceline.engine.grammar import Grammars
from paceline.engine.interfaces import StartedEngine
from paceline.engine.metrics import export_model_info
from paceline.engine.sampling.matcher import Grammar
from paceline.engine_server.model_service import ModelService
from paceline.engine_server.session import DecoderType, ServedSession
from paceline.errors import InvalidArgument, Unavailable
from paceline.protocol.features import SHARED_CALLS
from paceline.protocol.session import Opened, Opening
from paceline.rpc.codec.session import opening_from_proto
from paceline.rpc.deadline import remaining
from paceline.rpc.server import RpcServer
from paceline.rpc.session_stream import Deliveries, first_message, read_into
from paceline.v1 import model_pb2_grpc


class EngineServer(ABC):
    """The engine, ModelService, and the service that a subclass adds."""

    def __init__(self, started: StartedEngine, registry: CollectorRegistry) -> None:
        """Own the engine; belongs to the running event loop."""
        self.engine = started.engine
        features = (*started.model.features, SHARED_CALLS)
        self.model = dataclasses.replace(started.model, features=features, kv=self.engine.kv)
        self._tokenizer, self._threads = started.tokenizer, started.threads
        file = started.tokenizer.tokenizer_json if started.tokenizer else None
        self._grammars = Grammars(file, self.model.vocabulary_size, self.model.eos_token_ids)
        self.registry = registry
        export_model_info(registry, started)
        self._deliveries = Deliveries()
        self.engine.after_step = self._deliveries.flush
        self.draining = False

    @abstractmethod
    def register_service(self, server: RpcServer) -> None:
        """Add the servicer beside ModelService."""

    def register(self, server: RpcServer) -> None:
        """Add all servicers."""
        service = ModelService(
            self.model,
            self._tokenizer,
            lambda: self.engine.load,
            lambda: self.draining or not self.engine.alive,
            self._threads,
        )
        model_pb2_grpc.add_ModelServiceServicer_to_server(service, server.grpc)
        self.register_service(server)

    def alive(self) -> bool:
        """Whether the engine's worker runs."""
        return self.engine.alive

    def hindrance(self) -> str:
        """Nothing: once loaded it is ready until it drains."""
        return ""

    def drain(self) -> None:
        """Open no more sessions."""
        self.draining = True

    async def close(self) -> None:
        """Stop the engine."""
        await asyncio.to_thread(self.engine.stop)

    async def run_session(
        self,
        requests: AsyncIterator[Any],
        context: grpc.aio.ServicerContext[Any, Any],
        make_decoder: Callable[[Opening, Callable[[Any], None], Grammar | None], DecoderType],
        post: Callable[[DecoderType, Any], Sequence[float]],
        join: Callable[[list[Any]], list[Any]] = lambda items: items,
        more_to_come: Callable[[DecoderType], bool] = lambda _: False,
        owes: Callable[[DecoderType], bool] = lambda _: True,
    ) -> AsyncGenerator[Any, None]:
        """One session, from Open to the end of the stream.

        requests: messages of which the first has `open`. make_decoder: makes the session's
        decoder of its opening, a function to deliver items with, and what its output is held to.
        post: hands the decoder a later message; it returns at which moments, in seconds, items are
        wanted. Until the next they wait for each other while there is more_to_come in time; join
        makes fewer of those that did. owes: whether it has been asked for something that it has
        not given. Yields Opened, then the items, and Progress each second without one. However the
        stream ends, the session is freed before the next step; it ends with Unavailable where it
        is of no use for long.
        """
        opening = await self._opening(requests, context)
        grammar = await self.grammar(opening)

        def make(opening: Opening, deliver: Callable[[Any], None]) -> DecoderType:
            return make_decoder(opening, deliver, grammar)

        session = ServedSession(self.engine, self._deliveries, opening, make, more_to_come, owes)
        handle = functools.partial(session.handle, post)
        reader = asyncio.create_task(read_into(requests, handle, session.outbox))
        try:
            yield Opened(self.model.fingerprint)
            async with contextlib.aclosing(session.outbox.batches()) as batches:
                async for batch in batches:
                    if not batch:
                        session.check_used()
                    for item in join(batch) if batch else [session.progress]:
                        yield item
                    session.note_sent()
        finally:
            session.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def grammar(self, opening: Opening) -> Grammar | None:
        """What its output is held to, if anything.

        InvalidArgument where that has no meaning, FailedPrecondition where tokens have no text,
        ResourceExhausted where too many are being compiled.
        """
        constraint = opening.sampling.constraint
        if constraint is None:
            return None
        return await self._grammars.compiled(constraint)

    async def _opening(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> Opening:
        """What the first message opens; errors of it that the caller sees."""
        if self.draining:
            raise Unavailable("the server is draining")
        first = await first_message(requests, "open", remaining(context))
        if first.WhichOneof("message") != "open":
            raise InvalidArgument("the first message must be open")
        return opening_from_proto(first.open, self.model)
