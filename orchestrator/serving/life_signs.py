"""Signs of life of one call: sent while nothing else is, to whoever can resume elsewhere."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from orchestrator.serving.event_buffer import EventBuffer
from paceline.protocol.generation import SIGN_PAUSES_SECONDS, SignOfLife


class LifeSigns:
    """Puts signs of life into a call's event buffer, where its client has read all else."""

    def __init__(self, event_buffer: EventBuffer) -> None:
        """Begin with the first pause; belongs to the running event loop."""
        self._buffer = event_buffer
        self._events = 0
        self._row = 0
        self._draining = False
        self._timer = self._look_later()

    def drain(self) -> None:
        """Say at once that the server is about to stop, and whenever a sign is due."""
        self._draining = True
        self._buffer.put(SignOfLife(draining=True))

    def stop(self) -> None:
        """The call is over."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._buffer.events_put == self._events and self._buffer.is_read:
            self._buffer.put(SignOfLife(self._draining))
            self._row += 1
        else:
            self._row = 0
        self._events = self._buffer.events_put
        self._timer = self._look_later()

    def _look_later(self) -> asyncio.TimerHandle:
        pause = SIGN_PAUSES_SECONDS[min(self._row, len(SIGN_PAUSES_SECONDS) - 1)]
        return asyncio.get_running_loop().call_later(pause, self._look)


async def signs_until(
    task: "asyncio.Task[Any]", *, given: bool
) -> AsyncGenerator[SignOfLife, None]:
    """Wait until the task is done, with signs of life meanwhile where they are given."""
    row = 0
    try:
        while not task.done():
            pause = SIGN_PAUSES_SECONDS[min(row, len(SIGN_PAUSES_SECONDS) - 1)]
            await asyncio.wait({task}, timeout=pause if given else None)
            if not task.done():
                yield SignOfLife()
                row += 1
    finally:
        if not task.done():
            task.cancel()
