"""What happens around every call: request id, log, metrics, errors, bad messages."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry, Counter, Histogram

from paceline.best_effort import best_effort
from paceline.errors import Internal, InvalidArgument, PacelineError
from paceline.rpc import request_id
from paceline.rpc.deadline import LATE_SECONDS
from paceline.rpc.doors import OPEN, Doors
from paceline.rpc.repeated import Repeats
from paceline.rpc.status_codes import code_of, message_of, trailing_metadata
from paceline.tracing.span import TraceSpan, serve

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)

_OWN_FAULTS = (
    grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS,
)  # fmt: skip
"""OpenTelemetry's conventions count these as errors of a server; the others are its callers'."""


class RpcMetrics:
    """Calls by method and code, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`."""
        self._calls = Counter(
            "paceline_rpcs",
            "Calls that ended, by method and gRPC status code; of Verify and Draft, sessions. A "
            "session that its orchestrator closes, or whose connection breaks, ends with OK.",
            ["method", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "paceline_rpc_seconds",
            "Seconds from the start to the end of a call; of Verify and Draft, of a session.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )

    def observe(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Count a call that ended."""
        self._calls.labels(method, code.name).inc()
        self._seconds.labels(method).observe(seconds)


class CallContext(Protocol):
    """What a call says of itself: gRPC's context, or that of a front beside it."""

    def invocation_metadata(self) -> Any:
        """Names in small letters and values; None where there are none."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any = ()) -> Any:
        """End the call: raises."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of package paceline; a servicer just raises PacelineError."""

    def __init__(self, metrics: RpcMetrics, doors: Doors = OPEN) -> None:
        """Count in `metrics`. stopping: calls that end from now on are ended by the server."""
        self._metrics = metrics
        self._doors = doors
        self._repeats = Repeats()
        self.stopping = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that would be called."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):  # health and reflection, gRPC's own
            return handler
        deserializer = _careful(handler.request_deserializer)
        kinds = {"request_deserializer": deserializer}
        if handler.response_streaming:
            name = "stream_stream" if handler.request_streaming else "unary_stream"
            wrapped: Any = self.streaming(getattr(handler, name), method, enters=True)
        else:
            name = "stream_unary" if handler.request_streaming else "unary_unary"
            wrapped = self._unary(getattr(handler, name), method)
        return handler._replace(**kinds, **{name: wrapped})

    def streaming(self, behavior: Any, method: str, *, enters: bool = False) -> Any:
        """The handler of a method that answers with a stream, wrapped.

        enters: it is a call of its own, and no session on a call that has entered.
        """

        async def handle(request: Any, context: Context) -> AsyncIterator[Any]:
            is_session = isinstance(request, AsyncIterator)
            async with self.call(context, method, is_session=is_session, enters=enters):
                if is_session:
                    structlog.contextvars.bind_contextvars(session=uuid.uuid4().hex[:12])
                responses = behavior(_checked(request), context)
                # Closed here and now when the client has gone, not when memory is collected.
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield response

        return handle

    def _unary(self, behavior: Any, method: str) -> Any:
        async def handle(request: Any, context: Context) -> Any:
            async with self.call(context, method, is_session=False, enters=True):
                return await behavior(_checked(request), context)

        return handle

    @contextlib.asynccontextmanager
    async def call(
        self, context: CallContext, method: str, *, is_session: bool, enters: bool = False
    ) -> AsyncIterator[None]:
        """What happens around a call; errors end in the context's abort."""
        started = time.perf_counter()
        code, reason = grpc.StatusCode.CANCELLED, ""
        span = serve(method, context.invocation_metadata() or ())
        try:
            given = request_id.adopt(_metadata(context).get(request_id.HEADER, ""))
            structlog.contextvars.bind_contextvars(
                request_id=given, method=method, **span.log_fields
            )
            if enters:
                self._doors.enter(cast("Context", context))
            yield
            code = grpc.StatusCode.OK
        except PacelineError as error:
            code, reason = code_of(error), message_of(error)
            with best_effort("the log"):
                self._log_refusal(method, code, reason)
            await context.abort(code, reason, trailing_metadata(error))
        except (asyncio.CancelledError, GeneratorExit):
            code = self._code_of_cancelled(context, is_session=is_session)
            raise
        except BaseException:  # also what libraries in Rust raise, which is no Exception
            code = grpc.StatusCode.INTERNAL
            with best_effort("the log"):
                _log.exception("call failed", code=code.name)
            bug = Internal(f"a bug; request id {request_id.current_request_id()}")
            await context.abort(code, str(bug))
        finally:
            with best_effort("metrics"):
                self._metrics.observe(method, code, time.perf_counter() - started)
            with best_effort("traces"):
                _end(span, code, reason)

    def _log_refusal(self, method: str, code: grpc.StatusCode, reason: str) -> None:
        unsaid = self._repeats.note(method, code, reason)
        if unsaid is None:
            _log.debug("call failed", code=code.name, reason=reason)
        elif unsaid:
            _log.info("call failed", code=code.name, reason=reason, unsaid=unsaid)
        else:
            _log.info("call failed", code=code.name, reason=reason)

    def _code_of_cancelled(self, context: CallContext, *, is_session: bool) -> grpc.StatusCode:
        """What the caller of a call that was cancelled sees, as far as can be told from here."""
        left = context.time_remaining()
        if left is not None and left < LATE_SECONDS:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        if self.stopping:
            return grpc.StatusCode.UNAVAILABLE
        # To cancel it is how an orchestrator closes a session: that is no failure.
        return grpc.StatusCode.OK if is_session else grpc.StatusCode.CANCELLED


def _end(span: TraceSpan, code: grpc.StatusCode, reason: str) -> None:
    """End a call's span, with what its caller was told."""
    span.set({"rpc.response.status_code": code.name})
    if code in _OWN_FAULTS:
        span.fail(code.name, reason)
    span.end()


class _Undecodable:
    """In place of a message that is none."""


def _careful(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """A deserializer whose failure can still be reported; gRPC would make it INTERNAL."""

    def deserialize(message: bytes) -> Any:
        try:
            return deserializer(message) if deserializer else message
        except DecodeError:
            return _Undecodable()

    return deserialize


def _checked(request: Any) -> Any:
    """The request, or stream of requests; an undecodable one raises InvalidArgument."""
    if isinstance(request, _Undecodable):
        raise InvalidArgument("the message is not the method's: it cannot be decoded")
    if isinstance(request, AsyncIterator):
        return _checked_stream(request)
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


def _metadata(context: CallContext) -> dict[str, str | bytes]:
    return dict(context.invocation_metadata() or ())
