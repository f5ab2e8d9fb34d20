"""Turns traces on, as OpenTelemetry's environment asks, and ends them in time."""

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version

import structlog

from paceline.tracing.span import record

_log = structlog.get_logger(__name__)

FLUSH_SECONDS = 3.0
"""How long a process that ends waits for its last spans to be taken."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
DEFAULT_ENDPOINT = "http://localhost:4317"
HELP = """traces, off unless asked for, with the extra "traces":
  OTEL_EXPORTER_OTLP_ENDPOINT sends them there by OTLP over gRPC, as
  http://collector:4317; OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG,
  OTEL_SERVICE_NAME and the others of OpenTelemetry hold too"""


def are_asked_for(environment: Mapping[str, str]) -> bool:
    """Whether traces are on: an endpoint or an exporter is named, and nothing turns them off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    return exporter != "none" if exporter else any(environment.get(one) for one in ENDPOINTS)


def hindrance(environment: Mapping[str, str]) -> str:
    """Why traces that are asked for cannot be sent, in words; empty where they can."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in {"", "otlp"}:
        return f"OTEL_TRACES_EXPORTER is {exporter!r}; it must be otlp or none"
    for name in PROTOCOLS:
        if protocol := environment.get(name, "").strip():
            if protocol != "grpc":
                return f"{name} is {protocol!r}; it must be grpc, whose port is 4317"
            break
    if not _is_installed():
        return "OpenTelemetry is not installed; pip install 'paceline[traces]'"
    return ""


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc") is not None
    except ModuleNotFoundError:
        return False


def start(service: str) -> Callable[[], None]:
    """Record and send traces where they are asked for; returns what ends that.

    service: what the process is called unless OTEL_SERVICE_NAME says. Never raises: whoever asks
    for traces that cannot be sent is told by the log, and served all the same.
    """
    if not are_asked_for(os.environ):
        return lambda: None
    reason = hindrance(os.environ)
    if not reason:
        try:
            return _start(service)
        except Exception as error:  # a certificate file that is not there, as an example
            reason = f"OpenTelemetry does not start: {error}"
    _log.warning("traces are off", reason=reason)
    return lambda: None


def _start(service: str) -> Callable[[], None]:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from paceline.tracing.exporter import SaidOnce
    from paceline.tracing.recorder import OpenTelemetryRecorder

    ours = Resource({"service.name": service, "service.version": version("paceline")})
    resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
    endpoint = next(filter(None, map(os.environ.get, ENDPOINTS)), DEFAULT_ENDPOINT)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(SaidOnce(endpoint)))
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # SaidOnce says it once
    record(OpenTelemetryRecorder(provider))
    _log.info("traces are on", endpoint=endpoint)

    def end() -> None:
        record(None)
        thread = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)

    return end
