"""Why not just serve the small model: how its own outputs differ from the target's. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paceline.protocol.verdict import TokenLogprobs
from paceline_tools.bench.report import Ratio


@dataclass(frozen=True, slots=True)
class Alone:
    """A candidate that serves by itself, on the same prompts.

    identical: outputs that are the target's, of `outputs`. divergence: tokens in common before
    the first other one, median over those that are not. perplexity: by the target, of the
    candidate's outputs; target_perplexity: of its own; None where the target tells no logprobs.
    speed: over the target alone.
    """

    outputs: int
    identical: int
    divergence: float
    perplexity: float | None
    target_perplexity: float | None
    speed: Ratio


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Leading tokens that are the same."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def perplexity(logprobs: Sequence[TokenLogprobs]) -> float:
    """Exp of the mean negative logprob."""
    return math.exp(-sum(token.logprob for token in logprobs) / len(logprobs))
