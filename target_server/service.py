"""TargetService: one stream, one session, one Verification in the engine."""

import contextlib
import functools
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from paceline.best_effort import best_effort
from paceline.engine_server.server import EngineServer
from paceline.errors import InvalidArgument
from paceline.protocol.features import BRANCHES
from paceline.protocol.session import Opened, Progress
from paceline.protocol.verdict import PromptLogprobs, Verdict
from paceline.rpc.codec.session import opened_to_proto, progress_to_proto
from paceline.rpc.codec.verdict import prompt_logprobs_to_proto, verdict_to_proto, verify_from_proto
from paceline.rpc.interceptors import CallInterceptor
from paceline.rpc.multiplex.service import SharedService
from paceline.rpc.server import RpcServer
from paceline.v1 import target_pb2, target_pb2_grpc
from target_server.metrics import TargetMetrics
from target_server.traces import observing
from target_server.verification import Verification

VERIFY = "/paceline.v1.TargetService/Verify"


class TargetServer(EngineServer):
    """The engine and the services on it."""

    def register_service(self, server: RpcServer) -> None:
        """Add TargetService."""
        service = TargetService(self, TargetMetrics(self.registry), server.calls)
        target_pb2_grpc.add_TargetServiceServicer_to_server(service, server.grpc)


class TargetService(target_pb2_grpc.TargetServiceServicer):
    """Verifies proposals."""

    def __init__(
        self, server: EngineServer, metrics: TargetMetrics, calls: CallInterceptor
    ) -> None:
        """Work on the server's engine. calls: wraps the sessions of shared calls."""
        self._server = server
        self._metrics = metrics
        self._session = calls.streaming(self.Verify, VERIFY)

    async def Verify(
        self,
        request_iterator: AsyncIterator[target_pb2.VerifyRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[target_pb2.VerifyResponse]:
        """One session, from Open to the end of the stream."""
        asked: deque[float] = deque(maxlen=1)  # when the last Verify came
        most = self._server.engine.max_block_tokens
        branches = BRANCHES in self._server.model.features
        make = functools.partial(Verification, max_block_tokens=most, branches=branches)
        post = functools.partial(self._post, asked)
        session = self._server.run_session(
            request_iterator, context, make, post, owes=lambda verification: verification.owes
        )
        with observing(self._metrics.observe) as observe:
            async with contextlib.aclosing(session):
                async for value in session:
                    if not isinstance(value, Verdict):
                        yield _response(value)
                        continue
                    try:
                        yield _verdict_response(value, asked)
                    finally:  # once it is on its way: no metric delays it
                        with best_effort("metrics"):
                            observe(value)

    def VerifyShared(
        self,
        request_iterator: AsyncIterator[target_pb2.VerifySharedRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[target_pb2.VerifySharedResponse]:
        """Sessions that share a call, to its end."""
        types = target_pb2.VerifyResponse, target_pb2.VerifySharedResponse
        return SharedService(self._session, *types).messages(request_iterator)

    def _post(
        self, asked: deque[float], verification: Verification, request: target_pb2.VerifyRequest
    ) -> tuple[float, ...]:
        asked.append(time.perf_counter())
        if request.WhichOneof("message") != "verify":
            raise InvalidArgument("only verify may follow open")
        verification.ask(verify_from_proto(request.verify, self._server.model.vocabulary_size))
        return ()


def _response(value: Opened | PromptLogprobs | Progress) -> target_pb2.VerifyResponse:
    if isinstance(value, Opened):
        return target_pb2.VerifyResponse(opened=opened_to_proto(value))
    if isinstance(value, Progress):
        return target_pb2.VerifyResponse(progress=progress_to_proto(value))
    return target_pb2.VerifyResponse(prompt_logprobs=prompt_logprobs_to_proto(value))


def _verdict_response(verdict: Verdict, asked: deque[float]) -> target_pb2.VerifyResponse:
    """The verdict; the first after a Verify says how long that was queued."""
    seconds = time.perf_counter() - asked.pop() if asked else 0.0
    response = target_pb2.VerifyResponse(verdict=verdict_to_proto(verdict))
    response.verdict.queue_seconds = _queue_seconds(verdict, seconds)
    return response


def _queue_seconds(verdict: Verdict, seconds: float) -> float:
    """Of a Verify that came `seconds` ago, what was neither the step nor sampling."""
    return max(0.0, seconds - verdict.step_seconds - verdict.sampling_seconds)
