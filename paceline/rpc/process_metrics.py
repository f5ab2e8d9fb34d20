"""The metrics that every server has, whatever it serves: of its process and of its build."""

from collections.abc import Iterator

import grpc
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from paceline import __version__
from paceline.rpc.doors import OPEN, Doors


class DoorFiles(Collector):
    """Whether files of TLS and tokens are those in use, and until when the certificate is valid."""

    def __init__(self, doors: Doors) -> None:
        """Of a process."""
        self._doors = doors

    def collect(self) -> Iterator[Metric]:
        """A gauge of all files, and one of the certificate."""
        text = (
            "Whether the files last found changed could be used; 0: those before them are in use. "
            "files: certificate, of calls and metrics; dialing, of what is dialed; tokens."
        )
        successful = GaugeMetricFamily(
            "paceline_files_last_reload_successful", text, labels=["files"]
        )
        for one in self._doors.files:
            successful.add_metric([one.name], float(one.successful))
        yield successful
        text = "When the certificate in use ends to be valid, in seconds since 1970; only with TLS."
        expires = GaugeMetricFamily("paceline_certificate_expiration_timestamp_seconds", text)
        if self._doors.tls is not None:
            expires.add_metric([], self._doors.tls.files.current.expires)
        yield expires


def process_registry(doors: Doors = OPEN) -> CollectorRegistry:
    """A registry with what each process has: CPU, memory, garbage, its build, files of its doors.

    No series says when a counter was created: there would be one for each, which nothing reads.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(DoorFiles(doors))
    text = "1; the labels are the version of this server and that of gRPC in it."
    versions = {"version": __version__, "grpc": grpc.__version__}
    Info("paceline_build", text, registry=registry).info(versions)
    return registry
