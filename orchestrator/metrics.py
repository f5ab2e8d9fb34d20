"""What Prometheus sees of the orchestrator; names and units in the style of vLLM's."""

from dataclasses import fields
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.pools import Pool
from orchestrator.stream import OutputStream
from paceline.errors import PacelineError
from paceline.generation import Overhead, Statistics

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SHORT_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class OrchestratorMetrics:
    """Counters and histograms of streams and rounds."""

    def __init__(self, registry: CollectorRegistry, targets: Pool, drafts: Pool) -> None:
        """Register with `registry`; pools are counted when scraped."""
        self._streams = Counter(
            "paceline_streams", "Streams that ended.", ["outcome"], registry=registry
        )
        self._tokens = Counter(
            "paceline_generation_tokens", "Output tokens emitted.", registry=registry
        )
        self._prompt_tokens = Counter(
            "paceline_prompt_tokens", "Prompt tokens of streams that ended.", registry=registry
        )
        self._rounds = Counter(
            "paceline_spec_decode_num_rounds", "Rounds verified.", registry=registry
        )
        self._plain_steps = Counter(
            "paceline_spec_decode_num_plain_steps", "Steps with no proposal.", registry=registry
        )
        self._drafted = Counter(
            "paceline_spec_decode_num_draft_tokens",
            "Draft tokens received, by what guessed them.",
            ["drafter"],
            registry=registry,
        )
        self._verified = Counter(
            "paceline_spec_decode_num_verified_tokens_per_pos",
            "Draft tokens verified, by place in the round.",
            ["position"],
            registry=registry,
        )
        self._accepted = Counter(
            "paceline_spec_decode_num_accepted_tokens_per_pos",
            "Draft tokens accepted, by place in the round.",
            ["position"],
            registry=registry,
        )
        self._ttft = Histogram(
            "paceline_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._token_time = Histogram(
            "paceline_time_per_output_token_seconds",
            "Mean time of a stream's tokens after the first.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._overhead = Histogram(
            "paceline_round_overhead_seconds",
            "A round, less the wait for the draft and the target's step.",
            buckets=_SHORT_SECONDS,
            registry=registry,
        )
        self._overhead_parts = Counter(
            "paceline_round_overhead_part_seconds",
            "The same, all rounds together: sampling, queue, wire, codec, emit.",
            ["part"],
            registry=registry,
        )
        self._round = Histogram(
            "paceline_round_seconds",
            "From one verdict to the next, over a round.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._paced = Counter(
            "paceline_pacing_steps",
            "Steps planned by the pacer, by its reason.",
            ["reason"],
            registry=registry,
        )
        for kind, pool in (("target", targets), ("draft", drafts)):
            gauge = Gauge(
                f"paceline_{kind}s_ready", f"{kind.title()} servers at hand.", registry=registry
            )
            gauge.set_function(partial(_count_ready, pool))

    def finished(self, stream: OutputStream, error: PacelineError | None) -> None:
        """Count a stream that ended."""
        statistics = stream.statistics.result()
        self._streams.labels(type(error).__name__ if error else stream.finish_reason.value).inc()
        self._tokens.inc(stream.generated)
        self._prompt_tokens.inc(stream.usage.prompt_tokens)
        self._rounds.inc(statistics.rounds)
        self._plain_steps.inc(statistics.plain_steps)
        for drafter, count in stream.statistics.drafted.items():
            self._drafted.labels(drafter.value).inc(count)
        self._count_places(statistics)
        if stream.generated:
            self._ttft.observe(statistics.ttft_seconds)
        if stream.generated > 1:
            self._token_time.observe(statistics.decode_seconds / (stream.generated - 1))
        self._count_overheads(stream.statistics.overheads)
        for seconds in stream.statistics.round_seconds:
            self._round.observe(seconds)

    def paced(self, steps: dict[str, int]) -> None:
        """Count the steps of a stream that ended, by why its pacer planned them so."""
        for reason, count in steps.items():
            self._paced.labels(reason).inc(count)

    def _count_overheads(self, overheads: list[Overhead]) -> None:
        for overhead in overheads:
            self._overhead.observe(overhead.total)
        for part in fields(Overhead):
            seconds = sum(getattr(overhead, part.name) for overhead in overheads)
            self._overhead_parts.labels(part.name).inc(max(0.0, seconds))

    def _count_places(self, statistics: Statistics) -> None:
        for place, count in enumerate(statistics.verified_by_place):
            self._verified.labels(place).inc(count)
        for place, count in enumerate(statistics.accepted_by_place):
            self._accepted.labels(place).inc(count)


def _count_ready(pool: Pool) -> float:
    return len(pool.ready)
