"""What does Prometheus see of the orchestrator? Names and units in the style of vLLM's.

Here is what streams come to, by model; it is observed when scraped and when a stream ends, so that
streams that still run are seen too. What is read off targets and draft pools: pool_metrics.py.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import fields

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.output import OutputStream
from orchestrator.serving.pool_metrics import DraftCollector, StreamCollector
from orchestrator.serving.stream_statistics import StreamStatistics
from paceline.errors import PacelineError
from paceline.protocol.generation import Overhead

_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0),
)
_SHORT_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_TOKENS = tuple(float(2**power) for power in range(21))

_WHOLE = "Of streams whose output is whole. A request with n choices is n streams."
_HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "time_to_first_token_seconds": (
        "Seconds from a request's arrival at the orchestrator to the first output token, of "
        "each stream. A request with n choices is n streams.",
        _SECONDS,
    ),
    "inter_token_latency_seconds": (
        "Seconds from one step of the target that brought a stream output tokens to the next. "
        "A step that accepts draft tokens brings several tokens and counts once.",
        _SECONDS,
    ),
    "request_queue_time_seconds": (
        "Seconds from a request's arrival at the orchestrator to its first step on a target: "
        "encoding the prompt, finding a target, and waiting for KV there.",
        _SECONDS,
    ),
    "e2e_request_latency_seconds": (
        f"Seconds from a request's arrival at the orchestrator to the last output token. {_WHOLE}",
        _SECONDS,
    ),
    "request_time_per_output_token_seconds": (
        f"Mean seconds from one output token of a stream to the next. {_WHOLE}",
        _SECONDS,
    ),
    "request_prompt_tokens": (f"Tokens of the prompt, cached ones included. {_WHOLE}", _TOKENS),
    "request_generation_tokens": (f"Output tokens generated. {_WHOLE}", _TOKENS),
    "round_seconds": (
        "Seconds of a round: from one verdict of the target to the next, where the step between "
        "them verified draft tokens.",
        _SECONDS,
    ),
    "round_overhead_seconds": (
        "Seconds of a round that were neither the wait for draft tokens nor the target's forward "
        "pass.",
        _SHORT_SECONDS,
    ),
}
"""What is observed of each model's streams, with help text and buckets."""

_COUNTERS = {
    "prompt_tokens": "Prompt tokens of streams that have begun their output, cached ones included.",
    "generation_tokens": "Output tokens of streams, those that still run included.",
    "spec_decode_num_rounds": "Steps of streams on their target that verified draft tokens.",
    "spec_decode_num_target_only_steps": (
        "Ordinary decode steps of streams on their target: no draft token was verified."
    ),
    "target_losses": (
        "Times that streams lost their target, and looked for another one that goes on with them."
    ),
}
"""What is counted of each model's streams, with its help text."""

PARTS = tuple(part.name for part in fields(Overhead))
"""Of the overhead of a round."""


class _Families:
    """The histograms and counters of all models."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.histograms = {
            name: Histogram(f"paceline_{name}", text, ["model"], buckets=found, registry=registry)
            for name, (text, found) in _HISTOGRAMS.items()
        }
        self.counters = {
            name: Counter(f"paceline_{name}", text, ["model"], registry=registry)
            for name, text in _COUNTERS.items()
        }
        self.parts = Counter(
            "paceline_round_overhead_part_seconds",
            "Seconds of all rounds that were neither the wait for draft tokens nor the target's "
            "forward pass, by part: sampling and queue on the target, wire, codec, emit.",
            ["model", "part"],
            registry=registry,
        )
        self.streams = Counter(
            "paceline_streams",
            "Streams that ended, by outcome: stop, length, or the error that ended it: "
            "deadline_exceeded where the client's time ran out, cancelled where it went before. A "
            "request with n choices is n streams.",
            ["model", "outcome"],
            registry=registry,
        )


class _ModelMetrics:
    """What is observed of one model's streams. Labels are looked up once, here."""

    def __init__(self, families: _Families, model: str) -> None:
        self._histograms = {name: one.labels(model) for name, one in families.histograms.items()}
        self._counters = {name: one.labels(model) for name, one in families.counters.items()}
        self._parts = {part: families.parts.labels(model, part) for part in PARTS}

    def observe(self, name: str, values: Iterable[float]) -> None:
        """Observe values in a histogram."""
        histogram = self._histograms[name]
        for value in values:
            histogram.observe(value)

    def count(self, name: str, more: int) -> None:
        """Count so many more."""
        self._counters[name].inc(more)

    def observe_rounds(self, rounds: list[tuple[float, Overhead]]) -> None:
        """Observe seconds and overhead of each."""
        self.observe("round_seconds", (seconds for seconds, _ in rounds))
        self.observe("round_overhead_seconds", (overhead.total for _, overhead in rounds))
        for part, counter in self._parts.items():
            counter.inc(max(0.0, sum(getattr(overhead, part) for _, overhead in rounds)))


class OrchestratorMetrics:
    """Histograms and counters of streams, and all that is read when scraped."""

    def __init__(
        self, registry: CollectorRegistry, targets: Pool, drafts: DraftRouter, streams: AllStreams
    ) -> None:
        """Register with `registry`."""
        self._all_streams = streams
        self._lock = threading.Lock()  # a scrape has a thread of its own
        registry.register(_Scrape(self))  # before the histograms: it is scraped before them
        registry.register(StreamCollector(targets, streams))
        registry.register(DraftCollector(drafts))
        self._families = _Families(registry)
        self._models: dict[str, _ModelMetrics] = {}

    def observe_running(self) -> None:
        """Observe what running streams did since the last scrape."""
        for stream, model in self._all_streams.running.copy().items():
            self._observe(stream, model)

    def finished(self, stream: OutputStream, model: str, error: PacelineError | None) -> None:
        """Count a stream that ended."""
        metrics = self._observe(stream, model)
        self._families.streams.labels(model, outcome_of(stream, error)).inc()
        if error is not None:
            return
        metrics.observe("e2e_request_latency_seconds", [stream.statistics.seconds])
        metrics.observe("request_prompt_tokens", [stream.usage.prompt_tokens])
        metrics.observe("request_generation_tokens", [stream.generated])
        if stream.generated > 1:
            mean = stream.statistics.decode_seconds / (stream.generated - 1)
            metrics.observe("request_time_per_output_token_seconds", [mean])

    def _observe(self, stream: OutputStream, model: str) -> _ModelMetrics:
        """Observe what a stream did since it was observed last."""
        with self._lock:
            if model not in self._models:
                self._models[model] = _ModelMetrics(self._families, model)
            _observe_new(self._models[model], stream.statistics, stream.usage.prompt_tokens)
            return self._models[model]


def outcome_of(stream: OutputStream, error: PacelineError | None) -> str:
    """How a stream ended, in a word: its finish reason, or the error's."""
    return stream.finish_reason.value if error is None else error.word


def _observe_new(metrics: _ModelMetrics, statistics: StreamStatistics, prompt_tokens: int) -> None:
    """Observe what `statistics` have that was not seen yet."""
    seen, own = statistics.seen, statistics.own
    first, queue = statistics.ttft_seconds, statistics.queue_seconds
    if first is not None and queue is not None and not seen.first:
        seen.first = True
        metrics.observe("time_to_first_token_seconds", [first])
        metrics.observe("request_queue_time_seconds", [queue])
        metrics.count("prompt_tokens", prompt_tokens)
    tokens, steps, target_only = own.tokens, own.rounds, own.target_only_steps
    metrics.count("generation_tokens", tokens - seen.tokens)
    metrics.count("spec_decode_num_rounds", steps - seen.steps)
    metrics.count("spec_decode_num_target_only_steps", target_only - seen.target_only_steps)
    seen.tokens, seen.steps, seen.target_only_steps = tokens, steps, target_only
    metrics.count("target_losses", statistics.target_losses - seen.target_losses)
    seen.target_losses = statistics.target_losses
    gaps = statistics.gaps[seen.gaps :]
    metrics.observe("inter_token_latency_seconds", gaps)
    seen.gaps += len(gaps)
    rounds = statistics.rounds_since(seen.rounds)
    metrics.observe_rounds(rounds)
    seen.rounds += len(rounds)


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
