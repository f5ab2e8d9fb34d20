"""Plans: which drafts a round verifies, and which it waits for. Pure.

The price of time is what the stream makes of it: tokens per second. A draft token is worth its
chance of being accepted, all before it included; it is verified when that is more than its
row costs at this price, and waited for when that is more than the wait costs too. Optimal
stopping of a renewal-reward process (Ross 1970): with the price learned online nothing is tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.speculation.acceptance import StreamAcceptance
from paceline.protocol.proposal import DraftToken

TARGET_ONLY_STEPS = 16
"""Ordinary decode steps asked for at once, so that the target alone pays no round trip per
token."""
BRANCHES = 2
"""What a stream alone lets its draft work on, beside its draft tokens, where it has cores of its
own."""


class Plan(Protocol):
    """What to take from the draft before the next step."""

    @property
    def lookahead(self) -> int:
        """How far the draft may be ahead, where it does not share its cores with the target."""

    @property
    def ngram_lookahead(self) -> int:
        """How far lookup may be ahead, which takes no cores."""

    @property
    def enough(self) -> int | None:
        """How many draft tokens end a wait, so that they may come together; None: each counts."""

    @property
    def branches(self) -> int:
        """How many branches the draft may work on, beside its draft tokens."""

    @property
    def continue_steps(self) -> int:
        """Decode steps to ask of the target beyond the next one, should nothing be proposed."""

    def max_wait(
        self, draft_tokens: Sequence[DraftToken], wait: float | None, waited: float
    ) -> float:
        """Seconds to wait for one more draft token, expected in `wait` seconds; 0: step now.

        wait: None while nobody knows. waited: seconds waited for the draft tokens at hand.
        """

    def length(self, draft_tokens: Sequence[DraftToken]) -> int:
        """How many of the draft tokens at hand to verify."""


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """So many draft tokens, waited for so long, whatever they are worth."""

    at_least: int
    at_most: int
    wait_seconds: float
    continue_steps: int
    lookahead: int
    ngram_lookahead: int = 0
    branches: int = 0

    @property
    def enough(self) -> int:
        """See Plan."""
        return self.at_least

    def max_wait(
        self, draft_tokens: Sequence[DraftToken], wait: float | None, waited: float
    ) -> float:
        """See Plan."""
        return self.wait_seconds if len(draft_tokens) < self.at_least else 0.0

    def length(self, draft_tokens: Sequence[DraftToken]) -> int:
        """See Plan."""
        return min(self.at_most, len(draft_tokens))


@dataclass(frozen=True, slots=True)
class PacedPlan:
    """Draft tokens while they pay. price: tokens per second; token_seconds: what a row costs.

    shared_throughput: of a second of the target, which all its streams share. wait_factor: what a
    second of waiting costs, in seconds. wait_seconds: bound of a wait. answers: how often there is
    a first draft token at all.
    """

    acceptance: StreamAcceptance
    throughput: float
    shared_throughput: float
    token_seconds: float
    at_most: int
    wait_factor: float
    wait_seconds: float
    lookahead: int
    continue_steps: int = 0
    branches: int = 0
    hit_rate: float = 1.0

    @property
    def enough(self) -> None:
        """See Plan."""

    @property
    def ngram_lookahead(self) -> int:
        """See Plan. What this round verifies and the next: it is there when the verdict comes."""
        return max(self.lookahead, 2 * self.at_most)

    def max_wait(
        self, draft_tokens: Sequence[DraftToken], wait: float | None, waited: float
    ) -> float:
        """See Plan. One that takes much longer than expected is not waited for.

        The wait is paid in any case, the row only where there is a draft token to verify.
        """
        if len(draft_tokens) >= self.at_most:
            return 0.0
        chance = self.acceptance.all_right(draft_tokens) * self.acceptance.next_chance
        hit_rate = 1.0 if draft_tokens else self.hit_rate
        if hit_rate * (chance - self._row) <= self.throughput * self.wait_factor * (wait or 0.0):
            return 0.0
        return self.wait_seconds if wait is None else min(self.wait_seconds, 4 * wait + 0.002)

    def length(self, draft_tokens: Sequence[DraftToken]) -> int:
        """See Plan."""
        return worth_verifying(self.acceptance, draft_tokens[: self.at_most], self._row)

    @property
    def _row(self) -> float:
        """What a row costs, in tokens."""
        return self.shared_throughput * self.token_seconds


def worth_verifying(
    acceptance: StreamAcceptance, draft_tokens: Sequence[DraftToken], row: float
) -> int:
    """How many draft tokens have a chance, all before them included, of more than `row`."""
    chance = 1.0
    for place, draft_token in enumerate(draft_tokens):
        chance *= acceptance.chance(draft_token)
        if chance <= row:
            return place
    return len(draft_tokens)


@dataclass(frozen=True, slots=True)
class DraftState:
    """What there is to plan with.

    ready: a draft is there and did not miss its last time. shares_cores: it shares its cores
    with the target, so that they take turns.
    opening_seconds: until its first draft token; 0 when that has come, None while nobody knows.
    free: it only looks up, which takes next to no time. answers: how often it has a draft token at
    all.
    """

    ready: bool
    shares_cores: bool = False
    opening_seconds: float | None = 0.0
    free: bool = False
    hit_rate: float = 1.0


def target_only_steps(remaining: int) -> int:
    """Steps to ask for beyond the next one, where nothing is proposed."""
    return min(TARGET_ONLY_STEPS, remaining) - 1
