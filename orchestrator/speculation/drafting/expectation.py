"""When the next draft token is expected, learned from those that came. Pure."""

from orchestrator.speculation.drafting.lookahead import Lookahead
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from paceline.protocol.proposal import Drafter

OVERDUE = 3.0
"""A draft is overdue when its token takes so many times as long as usual: no round waits for it
again before it delivers."""
SOON = 0.25
"""A draft token that is late is still expected within this share of the usual wait."""


class Expectation:
    """When the draft of one session is expected to deliver. Times are handed in, on one clock.

    Three waits differ: for the first draft token of a session (cold), whose prompt the draft has to
    read; for the first one of a path (restart), which takes a round trip; and for each that
    follows.
    """

    def __init__(
        self,
        measurements: DraftMeasurements,
        lookahead: Lookahead,
        prompt_tokens: int,
        *,
        cold: bool,
        round_trip_seconds: float,
    ) -> None:
        """Nothing was asked of the draft yet. cold: it has to read its prompt.

        round_trip_seconds: to the draft server.
        """
        self._measurements = measurements
        self._lookahead = lookahead
        self._prompt_tokens = prompt_tokens
        self._round_trip_seconds = round_trip_seconds
        self._cold = cold
        self._restarts = True
        self._on_branch = False  # the target picked a branch, whose tokens may be on their way
        self._since: float | None = None  # when the draft began to work on its next token
        self._unanswered = True  # it is not known yet whether this path has a draft token at all
        self.overdue = False

    @property
    def opening_seconds(self) -> float | None:
        """Until a session's first draft token; 0 once it has come, None while nobody knows."""
        return self._opening_seconds if self._cold else 0.0

    def seconds(self, now: float) -> float | None:
        """Until the next draft token; None while nobody knows."""
        usual = self._usual
        if usual is None or self._since is None:
            return usual
        return max(usual - (now - self._since), SOON * usual)

    def miss(self, now: float) -> None:
        """A wait was in vain: the draft may be overdue, until it delivers."""
        self.overdue = self._is_overdue(now)

    def told(self, now: float) -> None:
        """The draft was told what matters: if it has credit, it works."""
        if not self._lookahead.at_work:
            self._since = None
        elif self._since is None:
            self._since = now

    def commit(self, *, stayed: bool, ready: bool) -> None:
        """Tokens were committed. stayed: as drafted. ready: draft tokens follow them."""
        self._unanswered = not ready
        if not stayed:
            self._since = None
            self._on_branch = ready
        self._restarts |= self._since is None

    def end(self) -> None:
        """The draft says that nothing comes on this path: what comes later was not waited for."""
        self._since = None
        self._answer(came=False)

    def come(self, count: int, drafter: Drafter, now: float) -> None:
        """Draft tokens came that continue the path."""
        self._answer(came=True)
        self._learn(count, drafter, now)

    def come_late(self, count: int, drafter: Drafter, now: float) -> None:
        """Draft tokens came for what is decided by now, and right: more is to come."""
        if self._cold:
            self._learn(count, drafter, now)
        else:
            self._follow(now)

    def _answer(self, *, came: bool) -> None:
        """Whether there is a draft token at all, once for each path."""
        if self._unanswered:
            self._measurements.hit_rate.observe(came)
            self._unanswered = False

    def _learn(self, count: int, drafter: Drafter, now: float) -> None:
        """Learn what draft tokens took, unless they were made before the draft was told."""
        if self._since is not None:
            seconds = now - self._since
            if self._on_branch and seconds < self._round_trip_seconds:
                return  # it was on its way before the draft heard of the rejection
            self._observe(seconds, count, drafter)
        # A draft token found by lookup comes before the model has read the prompt.
        self._cold = self._cold and drafter is not Drafter.MODEL
        self._follow(now)

    def _observe(self, seconds: float, count: int, drafter: Drafter) -> None:
        if self._cold and drafter is Drafter.MODEL:
            self._measurements.observe_opening(self._prompt_tokens, seconds)
        elif self._lookahead.tells_time(count, restart=self._restarts):
            each = self._of_first(seconds, count)
            self._measurements.observe_wait(each, drafter, restart=self._restarts)

    def _follow(self, now: float) -> None:
        """The draft is on the path: the next draft token follows one that has come."""
        self._restarts = self._on_branch = False
        self._since = now if self._lookahead.at_work else None

    def _of_first(self, seconds: float, count: int) -> float:
        """What the first token took where `count` came together; of those that follow, each."""
        following = (self._measurements.wait(restart=False) or 0.0) if self._restarts else 0.0
        return max(seconds / count, seconds - (count - 1) * following)

    def _is_overdue(self, now: float) -> bool:
        """Whether the next draft token takes far longer than it should."""
        usual = self._usual
        if usual is None or self._since is None:
            return True
        return now - self._since > OVERDUE * usual

    @property
    def _usual(self) -> float | None:
        if self._cold:
            return self._opening_seconds
        return self._measurements.wait(restart=self._restarts)

    @property
    def _opening_seconds(self) -> float | None:
        return self._measurements.opening_seconds(self._prompt_tokens)
