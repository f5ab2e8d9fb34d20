"""What a round took: from one verdict of a stream to the next, where nothing stalled. Pure."""

from paceline.averages import Mean
from paceline.protocol.verdict import TimedVerdict

_AT_ONCE = 0.5
"""A verdict that comes sooner than within this share of its step was there already, unread."""


class RoundTimes:
    """Times between verdicts of one stream, without those that say nothing of what rounds take.

    A time in which the target was lost, the client did not read or a process stalled is left out,
    and so are those of verdicts that came meanwhile and are read all at once behind it.
    """

    def __init__(self) -> None:
        """Begin before the first verdict."""
        self._last: float | None = None
        self._answer_seconds = Mean()
        self._catches_up = False

    def interrupted(self) -> None:
        """The time until the next verdict does not count."""
        self._last = None
        self._catches_up = True

    def passed(self, arrived_seconds: float) -> None:
        """The verdict before the next one came then; what it took is not looked at."""
        self._last = arrived_seconds

    def observe(self, timed: TimedVerdict) -> float | None:
        """Seconds since the verdict before; None where they do not count."""
        now, last = timed.arrived_seconds, self._last
        self._last = now
        if last is None:
            return None
        seconds = now - last
        if self._catches_up and seconds < _AT_ONCE * timed.verdict.step_seconds:
            return None
        # Of the target alone: a wait for the draft is what it costs, however long it was.
        counts = self._answer_seconds.observe(now - max(last, timed.asked_seconds))
        self._catches_up = not counts
        return seconds if counts else None
