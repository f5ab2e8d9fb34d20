"""Plans: which guesses a round verifies, and which it waits for. Pure.

The price of time is what the stream makes of it: tokens per second. A guess is worth its
chance of being accepted, all before it included; it is verified when that is more than its
row costs at this price, and waited for when that is more than the wait costs too. Optimal
stopping of a renewal-reward process (Ross 1970): with the price learned online nothing is tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.speculation.acceptance import Guess, StreamAcceptance

TARGET_ONLY_STEPS = 16
"""Plain steps asked for at once, so that the target alone pays no round trip per token."""
ALTERNATIVES = 2
"""What a stream alone lets its draft work on, beside its guesses, where it has cores of its own."""


class Plan(Protocol):
    """What to take from the draft before the next step."""

    @property
    def window(self) -> int:
        """How far the draft may be ahead, where it does not share its cores with the target."""

    @property
    def lookup_window(self) -> int:
        """How far lookup may be ahead, which takes no cores."""

    @property
    def enough(self) -> int | None:
        """How many guesses end a wait, so that they may come together; None: each counts."""

    @property
    def alternatives(self) -> int:
        """How many alternatives the draft may work on, beside its guesses."""

    @property
    def continue_steps(self) -> int:
        """Plain steps to ask of the target beyond the next one, should nothing be proposed."""

    def patience(self, guesses: Sequence[Guess], wait: float | None, waited: float) -> float:
        """Seconds to wait for one more guess, expected in `wait` seconds; 0: step now.

        wait: None while nobody knows. waited: seconds waited for the guesses at hand.
        """

    def length(self, guesses: Sequence[Guess]) -> int:
        """How many of the guesses at hand to verify."""


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """So many guesses, waited for so long, whatever they are worth."""

    at_least: int
    at_most: int
    wait_seconds: float
    continue_steps: int
    window: int
    lookup_window: int = 0
    alternatives: int = 0

    @property
    def enough(self) -> int:
        """See Plan."""
        return self.at_least

    def patience(self, guesses: Sequence[Guess], wait: float | None, waited: float) -> float:
        """See Plan."""
        return self.wait_seconds if len(guesses) < self.at_least else 0.0

    def length(self, guesses: Sequence[Guess]) -> int:
        """See Plan."""
        return min(self.at_most, len(guesses))


@dataclass(frozen=True, slots=True)
class PacedPlan:
    """Guesses while they pay. price: tokens per second; row_seconds: what a row costs.

    row_price: of a second of the target, which all its streams share. wait_factor: what a second
    of waiting costs, in seconds. wait_seconds: bound of a wait. answers: how often there is a
    first guess at all.
    """

    acceptance: StreamAcceptance
    price: float
    row_price: float
    row_seconds: float
    at_most: int
    wait_factor: float
    wait_seconds: float
    window: int
    continue_steps: int = 0
    alternatives: int = 0
    answers: float = 1.0

    @property
    def enough(self) -> None:
        """See Plan."""

    @property
    def lookup_window(self) -> int:
        """See Plan. What this round verifies and the next: it is there when the verdict comes."""
        return max(self.window, 2 * self.at_most)

    def patience(self, guesses: Sequence[Guess], wait: float | None, waited: float) -> float:
        """See Plan. One that takes much longer than expected is not waited for.

        The wait is paid in any case, the row only where there is a guess to verify.
        """
        if len(guesses) >= self.at_most:
            return 0.0
        chance = self.acceptance.all_right(guesses) * self.acceptance.next_chance
        answers = 1.0 if guesses else self.answers
        if answers * (chance - self._row) <= self.price * self.wait_factor * (wait or 0.0):
            return 0.0
        return self.wait_seconds if wait is None else min(self.wait_seconds, 4 * wait + 0.002)

    def length(self, guesses: Sequence[Guess]) -> int:
        """See Plan."""
        return worth_their_rows(self.acceptance, guesses[: self.at_most], self._row)

    @property
    def _row(self) -> float:
        """What a row costs, in tokens."""
        return self.row_price * self.row_seconds


def worth_their_rows(acceptance: StreamAcceptance, guesses: Sequence[Guess], row: float) -> int:
    """How many guesses have a chance, all before them included, of more than `row`."""
    chance = 1.0
    for place, guess in enumerate(guesses):
        chance *= acceptance.chance(guess)
        if chance <= row:
            return place
    return len(guesses)


@dataclass(frozen=True, slots=True)
class DraftState:
    """What there is to plan with.

    ready: a draft is there and did not miss its last time. shares_cores: it shares its cores
    with the target, so that they take turns.
    opening_seconds: until its first guess; 0 when that has come, None while nobody knows.
    free: it only looks up, which takes next to no time. answers: how often it has a guess at all.
    """

    ready: bool
    shares_cores: bool = False
    opening_seconds: float | None = 0.0
    free: bool = False
    answers: float = 1.0


def plain_steps(remaining: int) -> int:
    """Steps to ask for beyond the next one, where nothing is proposed."""
    return min(TARGET_ONLY_STEPS, remaining) - 1
