"""Deadlines: Python's gRPC propagates nothing, so each hop hands on what remains."""

from typing import Protocol

from paceline.errors import DeadlineExceeded

DEFAULT_SECONDS = 600.0
"""For a caller that gives none, unless the orchestrator's settings say otherwise."""
LONGEST_SECONDS = 1000 * DEFAULT_SECONDS
"""What is longer, as gRPC shows for none, counts as none."""
MARGIN_SECONDS = 0.05
"""Kept back at each hop, so that the answer still reaches the caller in time."""

LATE_SECONDS = 0.1
"""A caller gives up at its deadline; here the call is cancelled some moments before or behind."""


class TimedContext(Protocol):
    """A servicer's context."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""


def remaining(context: TimedContext, default: float = DEFAULT_SECONDS) -> float:
    """Seconds for the next hop; raises DeadlineExceeded when there are none left.

    default: for a caller that gives no deadline.
    """
    seconds = context.time_remaining()
    if seconds is None or seconds > LONGEST_SECONDS:
        return default
    if seconds <= MARGIN_SECONDS:
        raise DeadlineExceeded("the deadline has passed")
    return seconds - MARGIN_SECONDS
