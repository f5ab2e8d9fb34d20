"""The servicer of vllm.grpc.engine.VllmEngine: messages to values and back, over Serving."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import grpc
from smg_grpc_proto.generated import common_pb2, vllm_engine_pb2_grpc
from smg_grpc_proto.generated import vllm_engine_pb2 as vllm

from orchestrator.gateway.about import loads, model_info, server_info
from orchestrator.gateway.requests import request_from_vllm
from orchestrator.gateway.responses import Responses
from orchestrator.gateway.running import RunningCalls
from orchestrator.gateway.tokenizer_archive import archive, chunks
from orchestrator.serving.event_buffer import EventBuffer
from orchestrator.serving.generation import Serving
from paceline.errors import Unavailable, Unimplemented
from paceline.protocol.status import Role, Status
from paceline.rpc.deadline import remaining
from paceline.rpc.request_id import current_request_id

Context = grpc.aio.ServicerContext[object, object]


class VllmEngine(vllm_engine_pb2_grpc.VllmEngineServicer):
    """What smg asks of a worker. It names no model, so that an orchestrator serves it one."""

    def __init__(
        self, serving: Serving, status: Callable[[], Status], hindrance: Callable[[], str]
    ) -> None:
        """status: of the orchestrator. hindrance: why it can serve nothing; empty while it can."""
        self._serving = serving
        self._status = status
        self._hindrance = hindrance
        self._running = RunningCalls()
        self._started = time.monotonic()
        self._served = False

    async def Generate(
        self, request: vllm.GenerateRequest, context: Context
    ) -> AsyncIterator[vllm.GenerateResponse]:
        """Chunks, where it streams, and a Complete for each choice."""
        seconds = remaining(context, self._serving.default_seconds)
        self._serving.check_door(max(1, request.sampling_params.n), seconds)
        model = await self._serving.model()
        asked = request_from_vllm(request, model.max_positions)
        responses = Responses(stream=request.stream)
        request_id = request.request_id or current_request_id()
        event_buffer = EventBuffer()
        events = self._serving.generate(
            asked, seconds=seconds, request_id=request_id, event_buffer=event_buffer
        )
        with self._running.run((context.peer(), request.request_id), event_buffer):
            async with contextlib.aclosing(events):
                async for event in events:
                    for response in responses.of(event):
                        yield response

    async def Abort(self, request: vllm.AbortRequest, context: Context) -> vllm.AbortResponse:
        """End calls that came over the same connection; see RunningCalls."""
        for request_id in request.request_ids:
            self._running.abort((context.peer(), request_id))
        return vllm.AbortResponse()

    async def HealthCheck(
        self, request: vllm.HealthCheckRequest, context: Context
    ) -> vllm.HealthCheckResponse:
        """Whether a call can be served; Unavailable before the first could ever be.

        The gateway asks for the model once, of a worker that answers this, healthy or not, and
        would know it as "unknown" from then on.
        """
        hindrance = self._hindrance()
        self._served = self._served or not hindrance
        if not self._served:
            raise Unavailable(hindrance)
        return vllm.HealthCheckResponse(healthy=not hindrance, message=hindrance)

    async def GetModelInfo(
        self, request: vllm.GetModelInfoRequest, context: Context
    ) -> vllm.GetModelInfoResponse:
        """The model, and the sampling that requests get which state none."""
        model = await self._serving.model()
        return model_info(model, self._serving.default_sampling(model))

    async def GetServerInfo(
        self, request: vllm.GetServerInfoRequest, context: Context
    ) -> vllm.GetServerInfoResponse:
        """The process."""
        return server_info(len(self._running), time.monotonic() - self._started)

    async def GetLoads(
        self, request: vllm.GetLoadsRequest, context: Context
    ) -> vllm.GetLoadsResponse:
        """What runs and waits, and how full KV is: the gateway balances by it."""
        status = self._status()
        targets = [one for one in status.of(Role.TARGET) if one.reachable]
        return loads(status, targets, datetime.now(UTC).isoformat())

    async def GetTokenizer(
        self, request: common_pb2.GetTokenizerRequest, context: Context
    ) -> AsyncIterator[common_pb2.GetTokenizerChunk]:
        """The target's, so that the gateway needs no files of the model."""
        content = archive(await self._serving.tokenizer_files())
        for chunk in chunks(content):
            yield chunk

    async def SubscribeKvEvents(
        self, request: common_pb2.SubscribeKvEventsRequest, context: Context
    ) -> AsyncIterator[common_pb2.KvEventBatch]:
        """Not served: the gateway asks for loads instead."""
        raise Unimplemented("KV is the targets': the orchestrator sends no events of it")
        yield common_pb2.KvEventBatch()

    async def Embed(self, request: vllm.EmbedRequest, context: Context) -> vllm.EmbedResponse:
        """Not served."""
        raise Unimplemented("embeddings are not served: the targets generate")

    async def FlushCache(
        self, request: common_pb2.FlushCacheRequest, context: Context
    ) -> common_pb2.FlushCacheResponse:
        """Not served."""
        raise Unimplemented("prefix caches are the targets': the orchestrator cannot flush them")

    async def StartProfile(
        self, request: common_pb2.StartProfileRequest, context: Context
    ) -> common_pb2.ProfileResponse:
        """Not served."""
        raise Unimplemented("the orchestrator runs no engine to profile")

    async def StopProfile(
        self, request: common_pb2.StopProfileRequest, context: Context
    ) -> common_pb2.ProfileResponse:
        """Not served."""
        raise Unimplemented("the orchestrator runs no engine to profile")
