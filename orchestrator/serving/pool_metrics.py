"""What Prometheus sees of targets and draft pools: read when scraped, nothing is counted here."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.serving.all_streams import AllStreams
from orchestrator.speculation.estimates.counts import PoolCounts

_NO_POOL = ""
"""Label of steps of streams that had no draft."""


class StreamCollector(Collector):
    """Gauges of targets and streams, by model."""

    def __init__(self, targets: Pool, streams: AllStreams) -> None:
        """Read them when scraped."""
        self._targets = targets
        self._all_streams = streams

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield GaugeMetricFamily(
            "paceline_targets_ready",
            "Target servers, of any model, that this orchestrator can open sessions on.",
            len(self._targets.ready),
        )
        known = {one.model.name: 0 for one in self._targets.all if one.model}
        ready = Counter(one.model.name for one in self._targets.ready if one.model)
        yield _by_model(
            "paceline_model_targets_ready",
            "Target servers of the model that this orchestrator can open sessions on.",
            known | ready,
        )
        running = Counter(self._all_streams.running.copy().values())
        yield from self._for_pickers()
        yield _by_model(
            "paceline_streams_running",
            "Streams that were admitted and have not ended, one for each choice of each request: "
            "paceline_num_requests_running and paceline_num_requests_waiting together.",
            known | running,
        )
        wanting = Counter(self._all_streams.wanting_draft.copy().values())
        yield _by_model(
            "paceline_streams_wanting_draft",
            "Running streams that want a draft: those that have one, and those that would if a "
            "draft server were ready. All but those whose speculation is off.",
            known | wanting,
        )

    def _for_pickers(self) -> Iterator[Metric]:
        """What a picker of endpoints goes by: without labels, for it reads one series of each."""
        running, waiting = len(self._all_streams.running), self._all_streams.waiting
        shares = (one.kv_share for one in self._targets.all if one.reachable)
        yield GaugeMetricFamily(
            "paceline_num_requests_running",
            "Requests that a target works on: prompt or output. One with n choices is n.",
            running - waiting,
        )
        yield GaugeMetricFamily(
            "paceline_num_requests_waiting",
            "Requests that wait for a target, or for KV there. One with n choices is n.",
            waiting,
        )
        yield GaugeMetricFamily(
            "paceline_kv_cache_usage_perc",
            "Share of the KV for new streams that is promised, 0 to 1, of the target where it is "
            "largest. Streams may wait below 1: those that run need pages to grow into.",
            max(shares, default=0.0),
        )


def _by_model(name: str, text: str, values: dict[str, int]) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=["model"])
    for model, value in values.items():
        gauge.add_metric([model], value)
    return gauge


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
    "spec_decode_num_verified_tokens": (
        "Draft tokens of the pool that a target verified.",
        lambda one: one.verified,
    ),
    "spec_decode_num_accepted_tokens": (
        "Draft tokens of the pool that a target accepted: its own pick was the same.",
        lambda one: one.accepted,
    ),
    "spec_decode_num_branch_verified_tokens": (
        "Draft tokens of branches that a target verified beside the pool's draft tokens.",
        lambda one: one.branch_verified,
    ),
    "spec_decode_num_branch_accepted_tokens": (
        "Draft tokens of branches that came into an output, as a draft token was rejected and the "
        "target picked the branch.",
        lambda one: one.branch_accepted,
    ),
    "draft_streams": (
        "Sessions on drafts of the pool that streams were given. A stream that loses its draft "
        "or moves has several.",
        lambda one: one.streams,
    ),
    "draft_streams_moved": (
        "Streams that left the pool for another one while they ran.",
        lambda one: one.moved,
    ),
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
        "Draft tokens that came from the pool, by what drafted them: a model or prompt lookup.",
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
        f"Draft tokens of the pool that a target {kind}, by draft position: 0 is a round's first.",
        labels=["draft", "position"],
    )
    for pool, counts in all_counts.items():
        for position, count in enumerate(getattr(counts, f"{kind}_by_position")):
            found.add_metric([pool, str(position)], count)
    return found


def _pacing_steps(all_counts: dict[str, PoolCounts]) -> Metric:
    steps = CounterMetricFamily(
        "paceline_pacing_steps",
        "Steps planned for streams whose speculation is on auto, by the reason to draft or not.",
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
    "drafts_ready": (
        "Draft servers of the pool that this orchestrator can open sessions on.",
        lambda pool: len(pool.ready),
    ),
    "draft_streams_running": (
        "Running streams that have a draft of the pool.",
        lambda pool: pool.counts.running,
    ),
    "draft_benched": (
        "1 where the pool is benched, else 0: speculation with it does not pay, or its vocabulary "
        "is not the target's. New streams do without it, but for probes.",
        lambda pool: pool.measurements.benched or pool.wrong_vocabulary,
    ),
    "draft_acceptance_rate": (
        "Share of the pool's recent verified draft tokens that were accepted, 0 to 1; vLLM's "
        "rate divides by drafted tokens.",
        lambda pool: pool.measurements.recent.acceptance_rate,
    ),
    "draft_speedup_ratio": (
        "Speed of the pool's recent streams over that of the target alone at the same load: "
        "1.3 is 30 % faster. Absent until it was measured.",
        lambda pool: _speedup(pool, "value"),
    ),
    "draft_speedup_ratio_low": (
        "Lower bound of the 95 % interval of paceline_draft_speedup_ratio.",
        lambda pool: _speedup(pool, "low"),
    ),
    "draft_speedup_ratio_high": (
        "Upper bound of the 95 % interval of paceline_draft_speedup_ratio.",
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
