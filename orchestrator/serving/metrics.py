"""What does Prometheus see of the orchestrator? Names and units in the style of vLLM's.

Nothing is counted here but histograms: counters are read when scraped, from all_streams.py and
from the counts of each draft pool, so that streams that still run are seen too.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.output import OutputStream
from orchestrator.serving.stream_statistics import StreamStatistics
from orchestrator.speculation.estimates.counts import PoolCounts
from paceline.errors import PacelineError
from paceline.protocol.generation import Overhead

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SHORT_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_NO_POOL = ""
"""Label of steps of streams that had no draft."""


class OrchestratorMetrics:
    """Histograms of streams and rounds, and all that is read when scraped."""

    def __init__(
        self, registry: CollectorRegistry, targets: Pool, drafts: DraftRouter, streams: AllStreams
    ) -> None:
        """Register with `registry`."""
        self._all_streams = streams
        self._lock = threading.Lock()  # a scrape has a thread of its own
        registry.register(_Scrape(self))  # before the histograms: it is scraped before them
        registry.register(StreamCollector(targets, streams))
        registry.register(DraftCollector(drafts))
        self._streams = Counter(
            "paceline_streams", "Streams that ended, by outcome.", ["outcome"], registry=registry
        )
        self._prompt_tokens = Counter(
            "paceline_prompt_tokens", "Prompt tokens of streams that ended.", registry=registry
        )
        self._ttft = Histogram(
            "paceline_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._token_time = Histogram(
            "paceline_time_per_output_token_seconds",
            "Mean time of a stream's tokens after the first, of streams that ended.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._overhead = Histogram(
            "paceline_round_overhead_seconds",
            "Time of a round, less the wait for the draft and the target's forward pass.",
            buckets=_SHORT_SECONDS,
            registry=registry,
        )
        self._overhead_parts = Counter(
            "paceline_round_overhead_part_seconds",
            "Overhead of all rounds, by part: sampling, queue, wire, codec, emit.",
            ["part"],
            registry=registry,
        )
        self._round = Histogram(
            "paceline_round_seconds",
            "Time of a round: from one verdict to the next.",
            buckets=_SECONDS,
            registry=registry,
        )

    def observe_running(self) -> None:
        """Observe what running streams did since the last scrape."""
        for stream in list(self._all_streams.running):
            self._observe(stream.statistics)

    def finished(self, stream: OutputStream, error: PacelineError | None) -> None:
        """Count a stream that ended."""
        self._observe(stream.statistics)
        self._streams.labels(type(error).__name__ if error else stream.finish_reason.value).inc()
        self._prompt_tokens.inc(stream.usage.prompt_tokens)
        if stream.generated > 1:
            seconds = stream.statistics.result().decode_seconds
            self._token_time.observe(seconds / (stream.generated - 1))

    def _observe(self, statistics: StreamStatistics) -> None:
        """Observe what a stream did since it was observed last."""
        with self._lock:
            first = None if statistics.scraped_first else statistics.ttft_seconds
            if first is not None:
                statistics.scraped_first = True
                self._ttft.observe(first)
            rounds = statistics.rounds_since(statistics.scraped_rounds)
            statistics.scraped_rounds += len(rounds)
            for seconds, overhead in rounds:
                self._round.observe(seconds)
                self._overhead.observe(overhead.total)
            self._count_parts([overhead for _, overhead in rounds])

    def _count_parts(self, overheads: list[Overhead]) -> None:
        for part in fields(Overhead):
            seconds = sum(getattr(overhead, part.name) for overhead in overheads)
            self._overhead_parts.labels(part.name).inc(max(0.0, seconds))


class _Scrape(Collector):
    """Has nothing of its own: brings the histograms up to date."""

    def __init__(self, metrics: OrchestratorMetrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Nothing."""
        self._metrics.observe_running()
        return ()


class StreamCollector(Collector):
    """Counters of all streams together."""

    def __init__(self, targets: Pool, streams: AllStreams) -> None:
        """Read them when scraped."""
        self._targets = targets
        self._all_streams = streams

    def collect(self) -> Iterator[Metric]:
        """The families."""
        found = self._all_streams.totals
        yield GaugeMetricFamily("paceline_streams_running", "Streams that run.", found.running)
        yield CounterMetricFamily(
            "paceline_generation_tokens", "Output tokens emitted.", found.tokens
        )
        yield CounterMetricFamily(
            "paceline_spec_decode_num_rounds",
            "Steps that verified a proposal.",
            found.rounds,
        )
        yield CounterMetricFamily(
            "paceline_spec_decode_num_target_only_steps",
            "Target-only steps: ordinary decode steps, with no proposal.",
            found.target_only_steps,
        )
        yield GaugeMetricFamily(
            "paceline_targets_ready", "Target servers that are ready.", len(self._targets.ready)
        )


class DraftCollector(Collector):
    """Counters and gauges of each draft pool."""

    def __init__(self, drafts: DraftRouter) -> None:
        """Read them when scraped."""
        self._drafts = drafts

    def collect(self) -> Iterator[Metric]:
        """The families."""
        pools = self._drafts.pools
        all_counts = {pool.name: pool.counts for pool in pools}
        yield _drafted(all_counts)
        yield from (_pool_counter(name, all_counts) for name in _COUNTERS)
        yield from (_by_position(kind, all_counts) for kind in ("verified", "accepted"))
        yield _pacing_steps({**all_counts, _NO_POOL: self._drafts.none})
        yield from (_pool_gauge(name, pools) for name in _GAUGES)


_COUNTERS: dict[str, tuple[str, Callable[[PoolCounts], float]]] = {
    "spec_decode_num_verified_tokens": ("Draft tokens verified.", lambda one: one.verified),
    "spec_decode_num_accepted_tokens": ("Draft tokens accepted.", lambda one: one.accepted),
    "draft_streams": ("Streams that were given a draft of the pool.", lambda one: one.streams),
    "draft_streams_moved": ("Streams that left the pool for another.", lambda one: one.moved),
}
"""What is counted of each draft pool, with its help text."""


def _pool_counter(name: str, all_counts: dict[str, PoolCounts]) -> Metric:
    text, read = _COUNTERS[name]
    counter = CounterMetricFamily(f"paceline_{name}", text, labels=["draft"])
    for pool, counts in all_counts.items():
        counter.add_metric([pool], read(counts))
    return counter


def _drafted(all_counts: dict[str, PoolCounts]) -> Metric:
    drafted = CounterMetricFamily(
        "paceline_spec_decode_num_draft_tokens",
        "Draft tokens received, by what drafted them.",
        labels=["draft", "drafter"],
    )
    for pool, counts in all_counts.items():
        for drafter, count in counts.drafted.copy().items():
            drafted.add_metric([pool, drafter.value], count)
    return drafted


def _by_position(kind: str, all_counts: dict[str, PoolCounts]) -> Metric:
    """kind: verified or accepted."""
    found = CounterMetricFamily(
        f"paceline_spec_decode_num_{kind}_tokens_per_pos",
        f"Draft tokens {kind}, by draft position.",
        labels=["draft", "position"],
    )
    for pool, counts in all_counts.items():
        for position, count in enumerate(getattr(counts, f"{kind}_by_position")):
            found.add_metric([pool, str(position)], count)
    return found


def _pacing_steps(all_counts: dict[str, PoolCounts]) -> Metric:
    steps = CounterMetricFamily(
        "paceline_pacing_steps",
        "Steps that the pacer planned, by its reason.",
        labels=["draft", "reason"],
    )
    for pool, counts in all_counts.items():
        for reason, count in counts.reasons.copy().items():
            steps.add_metric([pool, reason], count)
    return steps


def _speedup(pool: DraftPool, which: str) -> float | None:
    speedup = pool.measurements.speedup
    return None if speedup is None else float(getattr(speedup, which))


_GAUGES: dict[str, tuple[str, Callable[[DraftPool], float | None]]] = {
    "drafts_ready": ("Draft servers that are ready.", lambda pool: len(pool.ready)),
    "draft_streams_running": ("Streams that have a draft.", lambda pool: pool.counts.running),
    "draft_benched": (
        "1 where the pool is benched: it does not pay, or its vocabulary is not the target's.",
        lambda pool: pool.measurements.benched or pool.wrong_vocabulary,
    ),
    "draft_acceptance_rate": (
        "Acceptance rate of recent draft tokens: accepted / verified. vLLM divides by drafted.",
        lambda pool: pool.measurements.recent.acceptance_rate,
    ),
    "draft_speedup_ratio": (
        "Speed-up: speed over that of the target alone at the same load.",
        lambda pool: _speedup(pool, "value"),
    ),
    "draft_speedup_ratio_low": (
        "Lower bound of the speed-up's 95 % interval.",
        lambda pool: _speedup(pool, "low"),
    ),
    "draft_speedup_ratio_high": (
        "Upper bound of the speed-up's 95 % interval.",
        lambda pool: _speedup(pool, "high"),
    ),
}
"""What is read off each draft pool, with its help text."""


def _pool_gauge(name: str, pools: list[DraftPool]) -> Metric:
    text, read = _GAUGES[name]
    gauge = GaugeMetricFamily(f"paceline_{name}", text, labels=["draft"])
    for pool in pools:
        if (value := read(pool)) is not None:  # else it is not known yet
            gauge.add_metric([pool.name], value)
    return gauge
