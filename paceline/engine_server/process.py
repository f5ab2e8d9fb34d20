"""A server that owns an engine: what draft and target servers share of process and sessions."""

import asyncio
import contextlib
import dataclasses
import functools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
import structlog
from prometheus_client import CollectorRegistry

from paceline.engine.interfaces import Decoder, StartedEngine
from paceline.engine.settings import EngineSettings
from paceline.engine.target_ids import target_ids
from paceline.engine_server.model_service import ModelService
from paceline.errors import InvalidArgument, Unavailable
from paceline.protocol.session import Opened, Opening, Progress
from paceline.rpc.codec.session import opening_from_proto
from paceline.rpc.deadline import remaining
from paceline.rpc.multiplex.call import FEATURE as SHARED_CALLS
from paceline.rpc.server import RpcServer, run_process
from paceline.rpc.session_stream import Deliveries, Outbox, first_message, read_into
from paceline.v1 import model_pb2_grpc

_log = structlog.get_logger(__name__)

DecoderType = TypeVar("DecoderType", bound=Decoder)
SettingsType = TypeVar("SettingsType", bound=EngineSettings)


class EngineServer(ABC):
    """The engine, ModelService, and the service that a subclass adds."""

    def __init__(self, started: StartedEngine, registry: CollectorRegistry) -> None:
        """Own the engine; belongs to the running event loop."""
        self.engine = started.engine
        features = (*started.model.features, SHARED_CALLS)
        self.model = dataclasses.replace(started.model, features=features, kv=self.engine.kv)
        self._tokenizer, self._threads = started.tokenizer, started.threads
        self.registry = registry
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
        decoder_type: Callable[[Opening, Callable[[Any], None]], DecoderType],
        post: Callable[[DecoderType, Any], Sequence[float]],
        join: Callable[[list[Any]], list[Any]] = lambda items: items,
        more_to_come: Callable[[DecoderType], bool] = lambda _: False,
    ) -> AsyncGenerator[Any, None]:
        """One session, from Open to the end of the stream.

        requests: messages of which the first has `open`. decoder_type: makes the session's
        decoder of its opening and a function to deliver items with. post: hands the decoder
        a later message; it returns at which moments, in seconds, items are wanted. Until the
        next they wait for each other while there is more_to_come in time; join makes fewer of those
        that did. Yields Opened, then the
        items, and Progress each second without one. However the stream ends, the session is freed
        before the next step.
        """
        if self.draining:
            raise Unavailable("the server is draining")
        first = await first_message(requests, "open", remaining(context))
        if first.WhichOneof("message") != "open":
            raise InvalidArgument("the first message must be open")
        opening = opening_from_proto(first.open, self.model)
        outbox: Outbox[Any] = Outbox(
            lambda: self.engine.pace if more_to_come(decoder) else math.inf
        )
        deliver = functools.partial(self._deliveries.deliver, outbox)
        decoder = decoder_type(opening, deliver)
        resumes = bool(opening.output_token_ids)
        session = self.engine.open(
            decoder,
            target_ids(opening.vocabulary).to_draft(
                opening.prompt_token_ids + opening.output_token_ids
            ),
            opening.max_length,
            resumes=resumes,
            # Logprobs of the prompt need all its rows computed.
            salt=opening.cache_salt if opening.prompt_logprobs is None else None,
            priority=opening.priority,
            has_room=outbox.has_room,
        )
        _log.debug("session opened", resumes=resumes)

        def handle(request: Any) -> None:
            outbox.expect_within(post(decoder, request))
            self.engine.wake(session)

        reader = asyncio.create_task(read_into(requests, handle, outbox))
        try:
            yield Opened(self.model.fingerprint)
            async with contextlib.aclosing(outbox.batches()) as batches:
                async for batch in batches:
                    for item in join(batch):
                        yield item
                    if not batch:
                        yield Progress(self.engine.steps, session.cached_tokens, self.engine.load)
                    if outbox.made_room():
                        self.engine.wake(session)
        finally:
            self.engine.close(session)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


async def _in_own_thread(
    start: Callable[[SettingsType, CollectorRegistry], StartedEngine],
    settings: SettingsType,
    registry: CollectorRegistry,
) -> StartedEngine:
    """What `start` returns, of a thread that ends with it; once cancelled nobody waits for that.

    OpenMP keeps workers for each thread that ever ran a model. When there are more of them
    than cores they no longer spin between operators but sleep, and a step takes a tenth longer.
    """
    running: Future[StartedEngine] = Future()

    def load() -> None:
        try:
            running.set_result(start(settings, registry))
        except BaseException as error:
            running.set_exception(error)

    running.set_running_or_notify_cancel()
    threading.Thread(target=load, name="load", daemon=True).start()
    return await asyncio.wrap_future(running)


def run_engine_process(
    settings: SettingsType,
    names: tuple[str, ...],
    start: Callable[[SettingsType, CollectorRegistry], StartedEngine],
    make: Callable[[StartedEngine, CollectorRegistry], EngineServer],
) -> None:
    """Run a server process: `start` the engine, serve what `make` makes of it, until a signal."""

    async def load(registry: CollectorRegistry) -> EngineServer:
        return make(await _in_own_thread(start, settings, registry), registry)

    run_process(settings, names, load, public=False)
