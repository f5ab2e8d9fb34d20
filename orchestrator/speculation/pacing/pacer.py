"""What paces a stream: the interface, and the pacer of a fixed draft length. Pure."""

from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.speculation.estimates.passed_steps import Passed
from orchestrator.speculation.pacing.plan import (
    BRANCHES,
    DraftState,
    Plan,
    WaitForCount,
    target_only_steps,
)
from orchestrator.speculation.reason import Reason
from paceline.protocol.proposal import DraftToken
from paceline.protocol.verdict import TimedVerdict


@dataclass(frozen=True, slots=True)
class Explanation:
    """How many steps a stream's pacer planned for each reason, and its latest numbers."""

    steps: dict[str, int]
    numbers: dict[str, float]


class Pacer(Protocol):
    """Plans the rounds of one stream."""

    @property
    def eager(self) -> bool:
        """Whether the draft should read the prompt while the target does."""

    @property
    def reason(self) -> Reason | None:
        """Why the latest step was planned as it was; None where the pacer adapts to nothing."""

    @property
    def rests(self) -> bool:
        """Whether the latest plan holds until the steps that it asked for are over.

        Nothing is asked of the draft then, and nothing taken from it.
        """

    @property
    def others(self) -> int:
        """Streams that share the target's steps, as far as it adapts to them."""

    def explain(self) -> Explanation:
        """Why rounds went as they did."""

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        """Learn of a verdict, and of the draft tokens that it verified."""

    def interrupted(self) -> None:
        """The time until the next verdict is none that a round takes: it is not to be learned of.

        The target was lost, the client did not read, or a draft was lost that was waited for.
        """

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        """Plan the next step of a stream that has `remaining` tokens to go.

        The target adds a token of its own to each round: the last one is never drafted.
        """


class RestingPacer(Pacer, Protocol):
    """One that need not see each step while it rests."""

    def passed(self, steps: Passed) -> None:
        """Count these; what they took is not known."""


@dataclass(slots=True)
class FixedPacer:
    """The same draft length in every round.

    draft_length: 0 is the target alone. max_wait_seconds: bound of the wait for each draft token.
    """

    draft_length: int
    max_wait_seconds: float
    reason: None = field(default=None, init=False)
    others: int = field(default=0, init=False)
    _alone: bool = field(default=True, init=False)

    @property
    def eager(self) -> bool:
        """See Pacer."""
        return self.draft_length > 0

    @property
    def rests(self) -> bool:
        """See Pacer."""
        return not self.draft_length

    def explain(self) -> Explanation:
        """See Pacer."""
        return Explanation({}, {"draft_length": self.draft_length})

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        """See whether there are others."""
        self._alone = timed.verdict.load.sessions <= 1

    def passed(self, steps: Passed) -> None:
        """It counts nothing."""

    def interrupted(self) -> None:
        """It learns nothing of times."""

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        """See Pacer."""
        length = max(0, min(self.draft_length, remaining - 1))
        ahead = 0 if draft.shares_cores or not length else self.draft_length + 2
        lookahead = length + ahead
        if not (length and draft.ready):
            steps = target_only_steps(remaining)
            return Plan(length, lookahead=lookahead, continue_steps=steps)
        branches = BRANCHES if self._alone and not draft.shares_cores else 0
        waiting = WaitForCount(length, self.max_wait_seconds)
        return Plan(length, waiting, lookahead=lookahead, branches=branches)
