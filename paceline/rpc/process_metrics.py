"""The metrics that every server has, whatever it serves: of its process and of its build."""

import grpc
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from paceline import __version__


def process_registry() -> CollectorRegistry:
    """A registry with the process's CPU, memory and files, its garbage collector, and its build.

    No series says when a counter was created: there would be one for each, which nothing reads.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    text = "1; the labels are the version of this server and that of gRPC in it."
    versions = {"version": __version__, "grpc": grpc.__version__}
    Info("paceline_build", text, registry=registry).info(versions)
    return registry
