"""How far a draft may run ahead of the committed tokens, and what it is told. Pure."""

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.plan import Plan
from paceline.protocol.advance import Advance

BEGIN_LOOKAHEAD = 6
"""Draft tokens that the draft may make while the target reads the prompt."""
_BEGIN = Plan(0, lookahead=BEGIN_LOOKAHEAD, ngram_lookahead=BEGIN_LOOKAHEAD)
HELD_DRAFT_TOKENS = 3
"""So many draft tokens that come together are worth an Advance of their own."""


class Lookahead:
    """The lookahead of one session, and the committed tokens that its draft was not told yet.

    Where draft and target share their cores the draft is granted one draft token at a time, so that
    it never works while the target does.
    """

    def __init__(
        self,
        committed: int,
        measurements: DraftMeasurements,
        *,
        shares_cores: bool,
        free: bool = False,
        fixed: int | None = None,
    ) -> None:
        """Begin behind so many committed tokens, with nothing granted.

        free: the draft only looks up. fixed: the lookahead, whatever plans grant.
        """
        self.shares_cores = shares_cores
        self._measurements = measurements
        self._free = free
        self._fixed = fixed
        self._news: list[int] = []
        self._position = committed  # where the committed tokens end that the draft knows of
        self._drafted = committed  # where its draft tokens end, as far as they came
        self._granted = (0, 0)
        self._holds = False  # draft tokens may be held back until they are due
        self._awaited = 0
        self.exhausted = False
        """Whether nothing more comes on this path: the draft said so, or is lost."""

    def commit(self, token_ids: tuple[int, ...]) -> None:
        """The target decided these tokens: the draft is to be told, and may go on."""
        self._news += token_ids
        self.exhausted = False

    def reach(self, position: int) -> None:
        """Draft tokens came that end before `position`."""
        self._drafted = position

    def begin(self) -> Advance | None:
        """What to tell while the target reads the prompt."""
        return None if self.shares_cores else self._advance(_BEGIN, BEGIN_LOOKAHEAD, 0, ())

    def rests(self, plan: Plan) -> bool:
        """Whether there is nothing to tell: it asks for nothing, and the draft is not at work."""
        return plan.asks_nothing and self._fixed is None and not self.at_work

    def while_waiting(
        self, plan: Plan, ready: int, due_seconds: tuple[float, ...]
    ) -> Advance | None:
        """What to tell before a wait; None: nothing that matters. ready: draft tokens at hand."""
        enough = plan.enough or 0
        # All that are waited for will be verified: nothing more need be told when they come.
        lookahead = plan.lookahead if self.shares_cores else plan.lookahead + enough
        return self._advance(plan, max(lookahead, ready + 1), ready, due_seconds, enough)

    def while_verifying(
        self, plan: Plan, length: int, ready: int, due_seconds: tuple[float, ...]
    ) -> Advance | None:
        """What to tell before a step that verifies `length` of the `ready` draft tokens.

        They will most likely be committed: the lookahead begins behind them.
        """
        lookahead = plan.lookahead if self.shares_cores else plan.lookahead + length
        return self._advance(plan, lookahead, ready, due_seconds)

    def _advance(
        self,
        plan: Plan,
        lookahead: int,
        ready: int,
        due_seconds: tuple[float, ...],
        awaited: int = 0,
    ) -> Advance | None:
        """News and credit, where they matter to what the draft does."""
        granted = (lookahead, plan.ngram_lookahead) if self._fixed is None else (self._fixed,) * 2
        if not self._matters(granted, due_seconds):
            return None
        advance = Advance(
            self._position, tuple(self._news), *granted, due_seconds, awaited, plan.branches
        )
        self._position += len(self._news)
        self._news.clear()
        self._drafted = self._position + ready
        self._granted = granted
        self._holds, self._awaited = bool(due_seconds), awaited
        return advance

    def _matters(self, granted: tuple[int, int], due_seconds: tuple[float, ...]) -> bool:
        """Without credit it matters only that a draft stops which is at work."""
        if not any(granted):
            return self.at_work
        return bool(self._news) or granted > self._granted or self._is_worth_holding(due_seconds)

    def _is_worth_holding(self, due_seconds: tuple[float, ...]) -> bool:
        """Whether enough draft tokens come before they are due that one message saves others."""
        if self._holds or not due_seconds:
            return False
        seconds = self._measurements.wait(restart=False)
        credit = self._position + self._granted[0] - self._drafted
        if seconds is None or credit < HELD_DRAFT_TOKENS:
            return False
        return due_seconds[-1] >= HELD_DRAFT_TOKENS * seconds

    @property
    def at_work(self) -> bool:
        """Whether the draft has credit left, as far as it was told, and has not said it is done."""
        credit = max(self._granted) if self._free else self._granted[0]
        return not self.exhausted and self._position + credit > self._drafted

    def tells_time(self, count: int, *, restart: bool) -> bool:
        """Whether `count` draft tokens that came together were sent as soon as they were made.

        Draft tokens that may be held back are not, but for all that were awaited. restart: they are
        the first on their path.
        """
        return not self._holds or (restart and count >= self._awaited > 0)
