"""The event loop of server processes."""

from time import monotonic

import uvloop

TIMER_SECONDS = 0.001
"""Timers of the loop are rounded to this, up or down."""


class EventLoop(uvloop.Loop):
    """uvloop, which does in C what asyncio's own loop does in Python, with a clock that measures.

    Its own clock stands still while callbacks run, and counts in milliseconds. This one's time()
    is in seconds, monotonic, as fine as the system has them.
    """

    time = staticmethod(monotonic)
