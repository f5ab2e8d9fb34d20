"""A collector of traces in this process: what servers sent it by OTLP."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.servers import eventually


@dataclass(frozen=True)
class SentSpan:
    """A span, as it came."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    attributes: dict[str, Any]
    events: tuple[str, ...]
    error: str | None
    start: int
    end: int


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what comes."""

    endpoint: str = ""
    spans: list[SentSpan] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(self, request: Any, context: Any) -> Any:
        found = [
            _sent(_attributes(resource.resource)["service.name"], span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self.lock:
            self.spans += found
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, end: str) -> list[SentSpan]:
        """Those whose name ends so, by their beginning."""
        with self.lock:
            return sorted(
                (one for one in self.spans if one.name.endswith(end)), key=lambda one: one.start
            )

    async def has(self, **counts: int) -> None:
        """Wait for so many spans whose name ends so."""

        async def there() -> bool:
            return all(len(self.named(name)) >= count for name, count in counts.items())

        await eventually(there)


def _sent(service: str, span: Any) -> SentSpan:
    return SentSpan(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        _attributes(span),
        tuple(event.name for event in span.events),
        span.status.message if span.status.code == 2 else None,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _attributes(message: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in message.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on some port of this machine."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    collector.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()
