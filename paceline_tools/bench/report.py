"""What the samples say: speeds, and ratios with their confidence. Pure."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from paceline_tools.bench.peers.registry import PEERS
from paceline_tools.bench.samples import Prompt, Sample

RESAMPLES = 2000
CONFIDENCE = 0.95
TARGET_ONLY = "target_only"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A geometric mean over prompts, and its 95 % interval by bootstrap (Efron 1979)."""

    ratio: float
    low: float
    high: float
    prompts: int

    @classmethod
    def over(cls, ratios: Iterable[float]) -> "Ratio":
        """Of one ratio for each prompt; at least one."""
        logs = [math.log(one) for one in ratios]
        rng = random.Random(0)  # noqa: S311  the same samples give the same interval
        means = sorted(statistics.fmean(rng.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
        tail = int((1 - CONFIDENCE) / 2 * RESAMPLES)
        ends = math.exp(means[tail]), math.exp(means[-tail - 1])
        return cls(math.exp(statistics.fmean(logs)), *ends, len(logs))


@dataclass(frozen=True, slots=True)
class Speed:
    """One variant on one kind of prompt; times in seconds."""

    tokens_per_second: float
    first_token: float
    gap_p50: float
    gap_p95: float
    acceptance_rate: float
    accepted_by_position: tuple[float, ...]
    overhead: float
    differing_tokens: int


def speed(samples: Sequence[Sample], differing: int) -> Speed:
    """Medians and percentiles of one variant's samples."""
    gaps = sorted(gap for sample in samples for gap in sample.gaps) or [0.0]
    verified = _by_position(sample.verified for sample in samples)
    accepted = _by_position(sample.accepted for sample in samples)
    rates = tuple(a / v for a, v in zip(accepted, verified, strict=False) if v)
    return Speed(
        tokens_per_second=statistics.geometric_mean(one.tokens_per_second for one in samples),
        first_token=statistics.median(sample.first_token_seconds for sample in samples),
        gap_p50=gaps[len(gaps) // 2],
        gap_p95=gaps[int(len(gaps) * 0.95)],
        acceptance_rate=sum(accepted) / sum(verified) if sum(verified) else 0.0,
        accepted_by_position=rates,
        overhead=statistics.median(sample.overhead_seconds for sample in samples),
        differing_tokens=differing,
    )


def ratio(of: Sequence[Sample], to: Sequence[Sample]) -> Ratio:
    """How many times as fast `of` is as `to`, prompt by prompt."""
    mine, theirs = _by_prompt(of), _by_prompt(to)
    return Ratio.over(mine[one] / theirs[one] for one in mine if one in theirs)


@dataclass(frozen=True, slots=True)
class Report:
    """All samples of a run.

    speculative: the variant that is meant by that word. reference: the one whose tokens are right.
    """

    samples: tuple[Sample, ...]
    speculative: str
    reference: str = TARGET_ONLY

    @property
    def variants(self) -> list[str]:
        """In the order in which they were first measured."""
        return list(dict.fromkeys(sample.variant for sample in self.samples))

    @property
    def kinds(self) -> list[str]:
        """Kinds of prompts, in order; first "all"."""
        return ["all", *dict.fromkeys(sample.prompt.kind for sample in self.samples)]

    def of(self, variant: str, kind: str = "all") -> list[Sample]:
        """Samples of a variant."""
        return [
            sample
            for sample in self.samples
            if sample.variant == variant and kind in {"all", sample.prompt.kind}
        ]

    def speed(self, variant: str, kind: str = "all") -> Speed:
        """How fast a variant was."""
        return speed(self.of(variant, kind), self._differing(variant, kind))

    def ratios(self) -> dict[str, dict[str, Ratio]]:
        """The pairs that matter, by name and kind."""
        pairs = {
            "speculative_vs_generate": (self.speculative, "generate"),
            "speculative_vs_assisted": (self.speculative, "assisted"),
            "speculative_vs_lookup": (self.speculative, "lookup"),
            "target_only_vs_generate": (TARGET_ONLY, "generate"),
            "speculative_vs_target_only": (self.speculative, TARGET_ONLY),
        }
        ours = [one for one in self.variants if one.startswith("paceline_")]
        pairs |= {f"{one}_vs_target_only": (one, TARGET_ONLY) for one in ours}
        pairs |= {f"speculative_vs_{one}": (self.speculative, one) for one in PEERS}
        if self.reference != TARGET_ONLY:
            pairs[f"target_only_vs_{self.reference}"] = (TARGET_ONLY, self.reference)
        others = [one for one in ours if one != self.speculative]
        pairs |= {f"{one}_vs_{self.speculative}": (one, self.speculative) for one in others}
        known = set(self.variants)
        return {
            name: {kind: ratio(self.of(one, kind), self.of(other, kind)) for kind in self.kinds}
            for name, (one, other) in pairs.items()
            if {one, other} <= known
        }

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "ratios": {
                name: {kind: asdict(value) for kind, value in by_kind.items()}
                for name, by_kind in self.ratios().items()
            },
            "variants": {
                variant: {kind: asdict(self.speed(variant, kind)) for kind in self.kinds}
                for variant in self.variants
            },
            "samples": [asdict(sample) for sample in self.samples],
        }

    def _differing(self, variant: str, kind: str) -> int:
        """Tokens that differ from the reference's; only our variants are held to that."""
        if variant != TARGET_ONLY and not variant.startswith("paceline_"):
            return 0
        expected = {sample.prompt: sample.token_ids for sample in self.of(self.reference)}
        return sum(
            one != other
            for sample in self.of(variant, kind)
            for one, other in zip_longest(sample.token_ids, expected.get(sample.prompt, ()))
        )


def _by_prompt(samples: Iterable[Sample]) -> dict[Prompt, float]:
    """Tokens per second of each prompt, repetitions averaged."""
    speeds: dict[Prompt, list[float]] = defaultdict(list)
    for sample in samples:
        speeds[sample.prompt].append(sample.tokens_per_second)
    return {prompt: statistics.geometric_mean(values) for prompt, values in speeds.items()}


def _by_position(counts: Iterable[Sequence[int]]) -> list[int]:
    return [sum(place) for place in zip_longest(*counts, fillvalue=0)]
