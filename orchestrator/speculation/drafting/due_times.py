"""When draft tokens are wanted. Until then a draft may hold them back, to share a message. Pure."""

from collections import deque

from orchestrator.speculation.drafting.expectation import Expectation
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.draft_length import LATE
from paceline.averages import TIMES, Mean
from paceline.protocol.verdict import TimedVerdict

DUE = 0.8
"""Draft tokens are wanted when this share of the time to the next verdict is over."""
LATER = (1.2, 1.8)
"""Draft tokens made later may come together until these shares of it, where only a count of draft
tokens ends a wait. Where each may end it, each is sent at once."""
_EACH, _TOGETHER = (DUE,), (DUE, *LATER)


class DueTimes:
    """The times that the draft of one session is told, in seconds from the message on."""

    def __init__(
        self, measurements: DraftMeasurements, expectation: Expectation, round_trip_seconds: float
    ) -> None:
        """Know of no verdict yet. round_trip_seconds: to the draft server."""
        self._measurements = measurements
        self._expectation = expectation
        self._round_trip_seconds = round_trip_seconds
        self._answer_seconds = Mean()
        # One more than count: it tells when the answer behind it was waited for.
        self._unseen: deque[TimedVerdict] = deque(maxlen=TIMES + 1)
        self._answered = 0.0
        self.at_once = True
        """Whether nothing may be held back."""

    def observe(self, timed: TimedVerdict) -> None:
        """A verdict came. Of a stream that pauses nobody asks what that took."""
        self._unseen.append(timed)

    def while_verifying(self, enough: int | None) -> tuple[float, ...]:
        """When they are wanted for the next round. enough: how many will end its wait."""
        return () if self.at_once else self._told(*self._next_verdict(enough))

    def while_waiting(self, enough: int | None, ready: int, now: float) -> tuple[float, ...]:
        """When draft tokens that are waited for are wanted, if some are late; then later ones."""
        missing = (enough or 0) - ready
        if self.at_once or missing <= 0:
            return ()
        following = self._measurements.wait(restart=False) or 0.0
        wait = (self._expectation.seconds(now) or 0.0) + (missing - 1) * following
        late = LATE * wait
        return self._told(late, *(max(late, wait + time) for time in self._next_verdict(enough)))

    def _next_verdict(self, enough: int | None) -> tuple[float, ...]:
        if len(self._unseen) > TIMES:
            self._answered = self._unseen.popleft().arrived_seconds
        for timed in self._unseen:
            asked = max(timed.asked_seconds, self._answered)
            self._answered = timed.arrived_seconds
            self._answer_seconds.observe(self._answered - asked)
        self._unseen.clear()
        usual = self._answer_seconds.value or 0.0
        shares = _EACH if enough is None else _TOGETHER
        return tuple([share * usual for share in shares])

    def _told(self, *seconds: float) -> tuple[float, ...]:
        """When draft tokens must leave the draft to be here in so many seconds.

        The draft counts from when it is told. Half a round trip passes before, half afterwards.
        """
        round_trip = self._round_trip_seconds
        return tuple([min(1.0, one - round_trip) for one in seconds if one > round_trip])
