"""Whether a server is alive: whether it says anything, and whether its engine makes steps."""

import asyncio
from typing import Any, Protocol

from paceline.rpc.session_stream import PROGRESS_SECONDS

SILENCE_SECONDS = 5.0
"""Servers say something every second; one that is silent this long is dead."""
STANDSTILL_SECONDS = 60.0
"""An engine that makes no step this long, with work to do, is dead."""
_WATCH_SECONDS = 1.0
_LOOKS = 5
"""A read must be seen to wait so often: what came while the loop stood still is read first."""


class Cancellable(Protocol):
    """A call."""

    def cancel(self) -> Any:
        """End it; who reads is cancelled."""


class SilenceWatch:
    """Cancels a call that has been read in vain for too long.

    One timer a session: a timeout around each read would cost as much as the read. Looks are
    counted, not only seconds: while the event loop stands still nothing is read, and that is no
    silence. Between two looks the loop has turned.
    """

    def __init__(self, call: Cancellable) -> None:
        """Watch from now on."""
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._reading_since: float | None = None
        self._looks = 0
        self.silent = False
        self._timer = self._look_later()

    def reading(self) -> None:
        """A read begins."""
        self._reading_since, self._looks = self._loop.time(), 0

    def read(self) -> None:
        """The read has ended."""
        self._reading_since = None

    def stop(self) -> None:
        """The session ends."""
        self._timer.cancel()

    def _look(self) -> None:
        since = self._reading_since
        self._looks += since is not None
        silent = since is not None and self._loop.time() - since > SILENCE_SECONDS
        if silent and self._looks > _LOOKS:
            self.silent = True
            self._call.cancel()
        else:
            self._timer = self._look_later()

    def _look_later(self) -> asyncio.TimerHandle:
        seconds = min(_WATCH_SECONDS, SILENCE_SECONDS / _LOOKS)
        return self._loop.call_later(seconds, self._look)


class EngineProgress:
    """Whether the engine makes steps while an answer is due.

    Judged by what it says, one word each PROGRESS_SECONDS: that may be read long after it was said.
    """

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._engine_steps = -1
        self._still = 0

    def answer(self) -> None:
        """What was due has come."""
        self._still = 0

    def stands_still(self, engine_steps: int) -> bool:
        """The server says how many steps it has made: whether these are too long the same."""
        if engine_steps != self._engine_steps:
            self._engine_steps, self._still = engine_steps, 0
            return False
        self._still += 1
        return self._still * PROGRESS_SECONDS > STANDSTILL_SECONDS
