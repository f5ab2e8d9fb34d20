"""Many streams at once: what a server gives them in steady state. Pure."""

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from paceline_tools.bench.samples import Sample


@dataclass(frozen=True, slots=True)
class LoadRun:
    """So many outputs of one variant, asked for together; their times count from that moment."""

    variant: str
    samples: tuple[Sample, ...]

    @property
    def streams(self) -> int:
        """Outputs at once."""
        return len(self.samples)

    @property
    def tokens_per_second(self) -> float:
        """Of all streams, from the last one's first token to the first one's last."""
        start = max(sample.seconds[0] for sample in self.samples)
        end = min(sample.seconds[-1] for sample in self.samples)
        tokens = sum(_between(sample.seconds, start, end) for sample in self.samples)
        return tokens / (end - start) if end > start else 0.0


def _between(seconds: Sequence[float], start: float, end: float) -> int:
    """Times after `start`, up to and with `end`."""
    return bisect_right(seconds, end) - bisect_right(seconds, start)


def median_rates(loads: Sequence[LoadRun]) -> dict[int, dict[str, float]]:
    """Tokens per second by streams and variant: medians over repetitions."""
    rates: dict[int, dict[str, list[float]]] = {}
    for load in loads:
        by_variant = rates.setdefault(load.streams, {})
        by_variant.setdefault(load.variant, []).append(load.tokens_per_second)
    return {
        streams: {variant: statistics.median(values) for variant, values in by_variant.items()}
        for streams, by_variant in rates.items()
    }
