"""The event loop of server processes."""

import time

import uvloop

TIMER_SECONDS = 0.001
"""Timers of the loop are rounded to this, up or down."""


class EventLoop(uvloop.Loop):
    """uvloop, which does in C what asyncio's own loop does in Python, with a clock that measures.

    Its own clock stands still while callbacks run, and counts in milliseconds.
    """

    def time(self) -> float:
        """Seconds, monotonic, as fine as the system has them."""
        return time.monotonic()
