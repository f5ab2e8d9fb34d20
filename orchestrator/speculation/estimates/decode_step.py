"""What an ordinary decode step takes at one load, which is what speculation is compared with. Pure.

Where many streams share steps only a step in which none verifies draft tokens and none reads a
prompt is one that the target alone would make. As they begin together all processes have more to
do than afterwards: what is measured then is too long, and speculation looks better than it is. So
it is measured again soon, by all streams at once, and ever later after that.
"""

from paceline.averages import TIMES, Mean

DECODE_STEP_ROUNDS = 256
"""Rounds, of each stream there is, after which it is measured again."""
BURST = 16
"""Fewer streams are measured by every ordinary step: they lose more by steps that only measure than
by an error."""
FIRST_ROUNDS, LONGER = 8, 2
"""Rounds of each, after which more are measured again at first, and how many times as many each
time."""


class DecodeStep:
    """Of streams that share steps, or of one that is alone. rounds: of all streams so far."""

    def __init__(self, others: int) -> None:
        """Begin with nothing, beside so many others: each of the streams sees the same step."""
        self._mean = Mean(TIMES * (1 + others))
        self._are_many = others >= BURST - 1
        self._pure = False
        self._measured_at = 0
        self._valid_rounds = FIRST_ROUNDS // LONGER if self._are_many else DECODE_STEP_ROUNDS

    @property
    def seconds(self) -> float | None:
        """What it takes; None while nothing was measured."""
        return self._mean.value

    def is_stale(self, others: int, rounds: int) -> bool:
        """Whether all streams had better measure it now."""
        return rounds - self._measured_at >= self._valid_rounds * (1 + others)

    def observe(self, seconds: float, others: int, rounds: int, *, pure: bool) -> None:
        """A step. pure: it was an ordinary one for all streams."""
        if self._are_many:
            self._observe_of_many(seconds, others, rounds, pure=pure)
        else:
            self._mean.observe(seconds)
            self._measured_at = rounds

    def _observe_of_many(self, seconds: float, others: int, rounds: int, *, pure: bool) -> None:
        """Others count until one is pure."""
        if self._mean.value is None or self.is_stale(others, rounds):
            self._mean.doubt()
            self._pure, self._measured_at = False, rounds
            self._valid_rounds = min(LONGER * self._valid_rounds, DECODE_STEP_ROUNDS)
        if pure and not self._pure:
            self._mean.doubt()
            self._pure = True
        if pure or not self._pure:
            self._mean.observe(seconds)
