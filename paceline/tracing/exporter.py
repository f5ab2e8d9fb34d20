"""Sends spans by OTLP. Imported only where traces are on."""

from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_log = structlog.get_logger(__name__)


class SaidOnce(SpanExporter):
    """OTLP over gRPC that says once that nobody takes the spans, and once that somebody does again.

    OpenTelemetry's own says it for each batch, which is every five seconds.
    """

    def __init__(self, endpoint: str) -> None:
        """Settings are those of the environment. endpoint: for the log."""
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter()
        self._taken = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; on a thread of the SDK's own."""
        result = self._exporter.export(spans)
        taken = result is SpanExportResult.SUCCESS
        if taken != self._taken:
            self._taken = taken
            if taken:
                _log.info("traces are taken again", endpoint=self._endpoint)
            else:
                _log.warning("traces are not taken", endpoint=self._endpoint)
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether all was sent."""
        return self._exporter.force_flush(timeout_millis)
