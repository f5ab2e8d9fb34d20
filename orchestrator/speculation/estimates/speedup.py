"""The speed-up of a draft: speed of streams that have it over that of the target alone. Pure.

A ratio of sums over blocks of rounds, each of one stream. The interval is estimated from the
differences between blocks: rounds of one stream are alike, and would make it too narrow.
"""

import math

from paceline.averages import DecayedSums
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
        decay = 1.0 - 1.0 / _MEMORY_BLOCKS
        # Of 1, tokens made, tokens of the target alone.
        self._sums = DecayedSums(3, decay)
        # Of weights squared: 1, made squared, made times alone, alone squared.
        self._squares = DecayedSums(4, decay * decay)

    def observe(self, made: float, alone: float) -> None:
        """A block: tokens made, and what the target alone would have made in that time."""
        self._sums.add(1.0, made, alone)
        self._squares.add(1.0, made * made, made * alone, alone * alone)

    def doubt(self) -> None:
        """Let what was seen so far weigh little beside what comes: it may be another draft."""
        self._sums.scale(_DOUBTED)
        self._squares.scale(_DOUBTED**2)

    def value(self, doubt: float) -> Speedup | None:
        """With an interval of 95 %, wider by `doubt` on both sides; None while not known."""
        weight, made, alone = self._sums.values
        weight_squares = self._squares.values[0]
        if not weight_squares or alone <= 0.0:
            return None
        blocks = weight * weight / weight_squares
        if blocks < _LEAST_BLOCKS:
            return None
        ratio = made / alone
        half = _student(blocks) * math.sqrt(self._variance(ratio, blocks)) + doubt
        return Speedup(ratio, max(0.0, ratio - half), ratio + half)

    def _variance(self, ratio: float, blocks: float) -> float:
        """Of the ratio, by the residuals of the blocks (Cochran 1977, section 6.4)."""
        alone = self._sums.values[2]
        _, made_squares, products, alone_squares = self._squares.values
        residuals = made_squares - 2.0 * ratio * products + ratio**2 * alone_squares
        return max(0.0, residuals) / alone**2 * blocks / (blocks - 1.0)


class SpeedupBlocks:
    """Gathers one stream's rounds to blocks."""

    def __init__(self, estimate: SpeedupEstimate) -> None:
        """For the estimate of all."""
        self._estimate = estimate
        self._rounds = 0
        self._made = self._alone = 0.0
        self._all_rounds = 0
        self._all_made = self._all_alone = 0.0

    def at_least(self, speedup: float) -> bool:
        """Whether the stream as a whole reached so much, as far as it was long enough to tell."""
        return self._all_rounds >= _LEAST_ROUNDS and self._all_made >= speedup * self._all_alone

    def observe(self, made: int, alone: float) -> bool:
        """A round, as in SpeedupEstimate; returns whether a block was full."""
        self._made += made
        self._alone += alone
        self._rounds += 1
        self._all_made += made
        self._all_alone += alone
        self._all_rounds += 1
        return self._rounds >= BLOCK_ROUNDS and self.flush()

    def flush(self) -> bool:
        """Count what was gathered, if it is worth it."""
        worth = self._rounds >= _LEAST_ROUNDS
        if worth:
            self._estimate.observe(self._made, self._alone)
        self._rounds, self._made, self._alone = 0, 0.0, 0.0
        return worth


def _student(blocks: float) -> float:
    """Two-sided 95 % quantile for so many blocks; within 2 % from 3 degrees of freedom on."""
    freedom = blocks - 1.0
    return 1.96 + 2.5 / freedom + 3.2 / freedom**2
