"""Whether a server is alive: whether it says anything, and whether its engine makes steps."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from paceline.rpc.session_stream import PROGRESS_SECONDS

SILENCE_SECONDS = 5.0
"""Servers say something every second; one that is silent this long is dead."""
STANDSTILL_SECONDS = 60.0
"""An engine that makes no step this long, with work to do, is dead."""
DOUBTED_STANDSTILL_SECONDS = 10.0
"""An engine that makes no step this long may be: the stream is opened elsewhere beside it."""
LATE_SECONDS, LATEST_SECONDS = 0.2, 0.5
"""An answer is late after twice the time that the session's answers took of late, within these."""
ASK_SECONDS = 0.25
"""A server that has just shown that it is alive is not asked again before this."""
_WATCH_SECONDS = 0.1
_LOOKS = 5
"""A read must be seen to wait so often: what came while the loop stood still is read first."""
_LATE_LOOKS = 2
_FORGET = 0.9


class Cancellable(Protocol):
    """A call."""

    def cancel(self) -> Any:
        """End it; who reads is cancelled."""


class SilenceWatch:
    """Of one session: cancels its call when it has been read in vain for too long.

    Looks are counted, not only seconds: while the event loop stands still nothing is read, and
    that is no silence. Between two looks the loop has turned.

    on_late: told, again and again, that an answer is late whose server does not answer questions
    either. on_answer: told that it came after all.
    """

    def __init__(self, call: Cancellable, *, answers: bool = False) -> None:
        """Nothing is read yet. answers: whether the server owes one to whoever reads."""
        self._call = call
        self._now = asyncio.get_running_loop().time
        self._owes = answers
        self._reading_since: float | None = None
        self._due_since: float | None = None
        self._looks = 0
        self._slowest = 0.0
        self._doubted = False
        self.silent = False
        self.on_late: Callable[[], None] = lambda: None
        self.on_answer: Callable[[], None] = lambda: None

    def reading(self) -> None:
        """A read begins."""
        self._reading_since, self._looks = self._now(), 0
        if self._due_since is None:
            self._due_since = self._reading_since

    def read(self) -> None:
        """The read has ended, with an answer, or with a sign of life alone."""
        self._reading_since = None

    def answered(self) -> None:
        """What was read was an answer."""
        if self._due_since is not None:
            took = min(self._now() - self._due_since, LATEST_SECONDS / 2)
            self._slowest = max(took, _FORGET * self._slowest)
        self.rest()
        if self._doubted:
            self._doubted = False
            self.on_answer()

    def expect(self) -> None:
        """The server, which owes none else, owes an answer from now on, until `forgive`."""
        self._owes, self._due_since = True, self._now()

    def forgive(self) -> None:
        """It owes none any more."""
        self._owes = False

    def rest(self) -> None:
        """No answer is owed for the time until now."""
        self._due_since = None

    def look(self, now: float) -> bool:
        """Whether an answer is late; gives the call up after SILENCE_SECONDS without a word."""
        if self._reading_since is None:
            return False
        self._looks += 1
        if self._looks <= _LATE_LOOKS:  # most sessions hear something between two looks
            return False
        if now - self._reading_since > SILENCE_SECONDS and self._looks > _LOOKS:
            self.give_up()
            return False
        return self._is_late(now)

    def _is_late(self, now: float) -> bool:
        late = max(LATE_SECONDS, min(2 * self._slowest, LATEST_SECONDS))
        waits = self._reading_since is not None and self._looks > _LATE_LOOKS
        return self._owes and waits and now - (self._due_since or now) > late

    def doubt(self) -> None:
        """The server does not answer questions; nor does it where this session's answer is late."""
        if self._is_late(self._now()):
            self.doubt_engine()

    def doubt_engine(self) -> None:
        """The answer may never come."""
        self._doubted = True
        self.on_late()

    def give_up(self) -> None:
        """Nothing more is expected of the call."""
        self.silent = True
        self._call.cancel()


class ServerWatch:
    """Looks at the sessions of one server, with one timer, and asks it where answers are late.

    A timeout around each read would cost as much as the read.
    """

    def __init__(self, answers: Callable[[], Awaitable[bool]]) -> None:
        """answers: asks the server anything, and returns whether it answered at once."""
        self._answers = answers
        self._sessions: set[SilenceWatch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = -math.inf

    def add(self, session: SilenceWatch) -> None:
        """A session begins."""
        self._sessions.add(session)
        if self._timer is None:
            self._look_later()

    def remove(self, session: SilenceWatch) -> None:
        """It ends."""
        self._sessions.discard(session)
        if not self._sessions and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        late = [session for session in tuple(self._sessions) if session.look(now)]
        if late and self._asking is None and now - self._asked_at > ASK_SECONDS:
            self._asking = asyncio.create_task(self._ask())
        self._look_later()

    def _look_later(self) -> None:
        seconds = min(_WATCH_SECONDS, SILENCE_SECONDS / _LOOKS)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    async def _ask(self) -> None:
        try:
            if not await self._answers():
                for session in tuple(self._sessions):
                    session.doubt()
        finally:
            self._asked_at = asyncio.get_running_loop().time()
            self._asking = None


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

    def still_seconds(self, engine_steps: int) -> float:
        """The server says how many steps it has made: for how long these are the same."""
        if engine_steps != self._engine_steps:
            self._engine_steps, self._still = engine_steps, 0
        else:
            self._still += 1
        return self._still * PROGRESS_SECONDS
