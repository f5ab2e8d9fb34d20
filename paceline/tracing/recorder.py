"""Spans that OpenTelemetry records. Imported only where traces are on."""

import time
from typing import Self

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span as RawSpan
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from paceline.tracing.context import TRACEPARENT, TRACESTATE, TraceContext
from paceline.tracing.span import Attributes, TraceSpan

_W3C = TraceContextTextMapPropagator()


class RecordedSpan(TraceSpan):
    """A span that is sampled."""

    recording = True

    def __init__(self, tracer: Tracer, raw: RawSpan) -> None:
        """`raw` has begun."""
        self._context = set_span_in_context(raw, Context())
        super().__init__(_context_of(self._context))
        self._tracer = tracer
        self._raw = raw
        self._failed = False

    @property
    def log_fields(self) -> dict[str, str]:
        """What log lines say of it."""
        return {**super().log_fields, "span_id": self.context.span_id if self.context else ""}

    def begin(
        self, name: str, attributes: Attributes | None = None, *, calls: bool = False
    ) -> Self:
        """See TraceSpan."""
        kind = SpanKind.CLIENT if calls else SpanKind.INTERNAL
        raw = self._tracer.start_span(name, self._context, kind, attributes)
        return type(self)(self._tracer, raw)

    def rename(self, name: str) -> None:
        """See TraceSpan."""
        self._raw.update_name(name)

    def set(self, attributes: Attributes) -> None:
        """See TraceSpan."""
        self._raw.set_attributes(attributes)

    def event(self, name: str) -> None:
        """See TraceSpan."""
        self._raw.add_event(name)

    def step(self, name: str, start: float, end: float, attributes: Attributes) -> None:
        """See TraceSpan."""
        raw = self._tracer.start_span(
            name, self._context, attributes=attributes, start_time=_wall(start)
        )
        raw.end(_wall(end))

    def fail(self, kind: str, reason: str = "") -> None:
        """See TraceSpan."""
        if not self._failed:
            self._failed = True
            self._raw.set_attribute("error.type", kind)
            self._raw.set_status(Status(StatusCode.ERROR, reason or None))

    def end(self) -> None:
        """See TraceSpan."""
        self._raw.end()


class OpenTelemetryRecorder:
    """Makes spans of calls, where the sampler wants them."""

    def __init__(self, provider: TracerProvider) -> None:
        """`provider` samples and exports."""
        self._tracer = provider.get_tracer("paceline")

    def serve(self, method: str, context: TraceContext | None) -> TraceSpan:
        """See paceline.tracing.span.Recorder."""
        name = method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        parent = Context()
        if context is not None:
            carrier = {TRACEPARENT: context.traceparent, TRACESTATE: context.tracestate}
            parent = _W3C.extract(carrier, parent)
        raw = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        if raw.is_recording():
            return RecordedSpan(self._tracer, raw)
        return TraceSpan(_context_of(set_span_in_context(raw, Context())))


def _context_of(context: Context) -> TraceContext | None:
    """What hands the span in `context` on."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context)
    parent = carrier.get(TRACEPARENT)
    return TraceContext(parent, carrier.get(TRACESTATE, "")) if parent else None


def _wall(seconds: float) -> int:
    """Nanoseconds since 1970 of a moment of the monotonic clock."""
    return time.time_ns() - int((time.monotonic() - seconds) * 1e9)
