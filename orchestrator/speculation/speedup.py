"""What a draft brings: the speed of streams that have it over that of the target alone. Pure.

A ratio of sums over blocks of rounds, each of one stream. The interval comes of how blocks
differ from each other: rounds of one stream are alike, and would make it too narrow.
"""

import math

from paceline.protocol.status import Speedup

BLOCK_ROUNDS = 32
"""Rounds of one stream that count together."""
_LEAST_ROUNDS = 8
"""Rounds of a stream that ended which are worth a block, or a judgement."""
_MEMORY_BLOCKS = 48.0
_DOUBTED = 0.125
_LEAST_BLOCKS = 3.9
"""Fewer than 4, decayed a little, say nothing of how much they differ."""


class SpeedupEstimate:
    """The speed-up of one draft, of all streams together; the latest 48 blocks or so count."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._kept = 1.0 - 1.0 / _MEMORY_BLOCKS
        self._weight = self._weight_squares = 0.0
        self._made = self._plain = 0.0
        self._made_squares = self._products = self._alone_squares = 0.0

    def observe(self, made: float, plain: float) -> None:
        """A block: tokens made, and what the target alone would have made in that time."""
        once, twice = self._kept, self._kept * self._kept
        self._weight = once * self._weight + 1.0
        self._weight_squares = twice * self._weight_squares + 1.0
        self._made = once * self._made + made
        self._plain = once * self._plain + plain
        self._made_squares = twice * self._made_squares + made * made
        self._products = twice * self._products + made * plain
        self._alone_squares = twice * self._alone_squares + plain * plain

    def doubt(self) -> None:
        """Let what was seen so far weigh little beside what comes: it may be another draft."""
        self._weight *= _DOUBTED
        self._made *= _DOUBTED
        self._plain *= _DOUBTED
        self._weight_squares *= _DOUBTED**2
        self._made_squares *= _DOUBTED**2
        self._products *= _DOUBTED**2
        self._alone_squares *= _DOUBTED**2

    def value(self, doubt: float) -> Speedup | None:
        """With an interval of 95 %, wider by `doubt` on both sides; None while not known."""
        if not self._weight_squares or self._plain <= 0.0:
            return None
        blocks = self._weight * self._weight / self._weight_squares
        if blocks < _LEAST_BLOCKS:
            return None
        ratio = self._made / self._plain
        half = _student(blocks) * math.sqrt(self._variance(ratio, blocks)) + doubt
        return Speedup(ratio, max(0.0, ratio - half), ratio + half)

    def _variance(self, ratio: float, blocks: float) -> float:
        """Of the ratio, by the residuals of the blocks (Cochran 1977, section 6.4)."""
        residuals = (
            self._made_squares - 2.0 * ratio * self._products + ratio**2 * self._alone_squares
        )
        return max(0.0, residuals) / self._plain**2 * blocks / (blocks - 1.0)


class StreamSpeedup:
    """Gathers one stream's rounds to blocks."""

    def __init__(self, estimate: SpeedupEstimate) -> None:
        """For the estimate of all."""
        self._estimate = estimate
        self._rounds = 0
        self._made = self._plain = 0.0
        self._all_rounds = 0
        self._all_made = self._all_target_only = 0.0

    def at_least(self, speedup: float) -> bool:
        """Whether the stream as a whole gained so much, as far as it was long enough to tell."""
        return (
            self._all_rounds >= _LEAST_ROUNDS and self._all_made >= speedup * self._all_target_only
        )

    def observe(self, made: int, plain: float) -> bool:
        """A round, as in SpeedupEstimate; returns whether a block was full."""
        self._made += made
        self._plain += plain
        self._rounds += 1
        self._all_made += made
        self._all_target_only += plain
        self._all_rounds += 1
        return self._rounds >= BLOCK_ROUNDS and self.flush()

    def flush(self) -> bool:
        """Count what was gathered, if it is worth it."""
        worth = self._rounds >= _LEAST_ROUNDS
        if worth:
            self._estimate.observe(self._made, self._plain)
        self._rounds, self._made, self._plain = 0, 0.0, 0.0
        return worth


def _student(blocks: float) -> float:
    """Two-sided 95 % quantile for so many blocks; within 2 % from 3 degrees of freedom on."""
    freedom = blocks - 1.0
    return 1.96 + 2.5 / freedom + 3.2 / freedom**2
