"""What Prometheus sees of an engine."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from paceline.engine.core.step_statistics import StepMeasurement
from paceline.engine.interfaces import StartedEngine
from paceline.protocol.session import Load

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def export_model_info(registry: CollectorRegistry, started: StartedEngine) -> None:
    """Say in labels what model it is, and what decides the bits of its numbers."""
    model, computes = started.model, started.computes_in
    info = Info(
        "paceline_model",
        "1; the labels are the served model, what it computes in, and the fingerprint of its "
        "numerics: targets with equal ones give equal tokens.",
        registry=registry,
    )
    info.info(
        {
            "model": model.name,
            "fingerprint": model.fingerprint,
            "vocabulary": model.vocabulary_hash,
            "batch_invariant": str(model.batch_invariant).lower(),
            **{name: computes.get(name, "") for name in ("dtype", "weights", "device")},
        }
    )


class EngineWatcher:
    """What an engine tells of what it does, on its own thread; this one takes no note."""

    def on_step(self, step: StepMeasurement) -> None:
        """It made a step."""

    def on_admit(self, tokens: int, cached: int, waited: float) -> None:
        """A session begins with `tokens`, has KV of `cached`, and waited so many seconds for it."""

    def on_preempt(self) -> None:
        """A session gave up its KV for another one."""


class EngineMetrics(EngineWatcher):
    """Histograms of steps, gauges of load."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`."""
        self._registry = registry
        self._seconds = Histogram(
            "paceline_engine_step_seconds",
            "Seconds of the forward pass of an engine step, of all sessions in it together.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            "paceline_engine_step_tokens",
            "Tokens computed in an engine step, of all sessions in it: its batch size in rows.",
            buckets=_ROWS,
            registry=registry,
        )

        self._queried = Counter(
            "paceline_prefix_cache_queries",
            "Tokens that sessions opened with, which the prefix cache was asked for.",
            registry=registry,
        )
        self._hits = Counter(
            "paceline_prefix_cache_hits",
            "Tokens that sessions opened with and that needed no prefill: their KV was cached.",
            registry=registry,
        )

        self._queue_time = Histogram(
            "paceline_engine_queue_time_seconds",
            "Seconds for which a session waited for KV, from when it was opened to its first step.",
            buckets=_QUEUE_SECONDS,
            registry=registry,
        )
        self._preemptions = Counter(
            "paceline_engine_preemptions",
            "Sessions that gave up their KV to others half way, and computed it again or ended.",
            registry=registry,
        )

    def on_admit(self, tokens: int, cached: int, waited: float) -> None:
        """Count what a session opened with, what of it was cached, and how long it waited."""
        self._queried.inc(tokens)
        self._hits.inc(cached)
        self._queue_time.observe(waited)

    def on_preempt(self) -> None:
        """Count it."""
        self._preemptions.inc()

    def on_step(self, step: StepMeasurement) -> None:
        """Observe a step."""
        self._seconds.observe(step.seconds)
        self._rows.observe(step.rows)

    def watch(self, load: Callable[[], Load]) -> None:
        """Read the load whenever scraped."""
        gauges = {
            "sessions": "Sessions open in the engine that have KV.",
            "waiting": "Sessions open in the engine that wait for KV.",
            "queued": "Sessions with work that the last engine step had no room for.",
            "kv_pages_used": "Pages of KV promised to open sessions.",
            "kv_pages_total": "Pages of KV that the engine has.",
        }
        for name, help_text in gauges.items():
            # A gauge that ends in _total would pass for a counter.
            full = f"paceline_engine_{name.removesuffix('_total')}"
            gauge = Gauge(full, help_text, registry=self._registry)
            gauge.set_function(partial(_read, load, name))
        share = Gauge(
            "paceline_engine_kv_share",
            "Share of the pages of KV that is promised to open sessions, 0 to 1.",
            registry=self._registry,
        )
        share.set_function(lambda: load().kv_share())


def _read(load: Callable[[], Load], name: str) -> float:
    return float(getattr(load(), name))
