"""The door: who begins now, who waits for that, and who is refused, fair among callers.

Requests wait here, not in a target's queue, once a few streams wait there: so one caller's many
do not stand before another one's few. Whoever has the fewest streams comes first; among the
requests of one caller higher priority does, and each AGE_SECONDS of waiting count as one more.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from paceline.averages import Rate
from paceline.errors import ResourceExhausted

MOST_BEGINNING = 64
"""Streams that may wait for a target, or for their first token, before others wait here."""
AGE_SECONDS = 1.0
LOOK_SECONDS = 0.02
_LEAST_SECONDS = 0.1
_MEMORY = 64
_MOST_SPREAD = 0.5
_SPREAD_STEP = 0.618034 * _MOST_SPREAD
"""Those refused together are told to come back at different times, up to half as long again: gRPC
takes calls in one by one, so the last of those that come together waits for all. Steps of the
golden ratio are even however many there are (Weyl)."""


@dataclass(eq=False)
class Waiter:
    """A request at the door, for so many streams."""

    caller: str
    streams: int
    priority: int
    since: float
    let_in: "asyncio.Future[None]" = field(repr=False)

    def rank(self, now: float) -> tuple[float, float]:
        """Among those of its caller; lower goes first."""
        return -(self.priority + (now - self.since) / AGE_SECONDS), self.since


class Door:
    """Lets requests in while there is room, and knows how long that takes."""

    def __init__(
        self, most_streams: int, most_waiting: int, is_full: Callable[[int], bool]
    ) -> None:
        """Nobody is in. most_streams: at once. most_waiting: requests.

        is_full: whether targets have no room, by how many streams are in.
        """
        self._most_streams = most_streams
        self._most_waiting = most_waiting
        self._is_full = is_full
        self._running: dict[str, int] = {}
        self._queues: dict[str, list[Waiter]] = {}
        self._turns: dict[str, int] = {}
        self._turn = itertools.count(1)
        self._pause = Rate(_MEMORY)  # seconds from one that leaves to the next
        self._lasts = Rate(_MEMORY)  # seconds that a request takes once it is in
        self._left_at: float | None = None
        self._spread = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def passing(
        self, caller: str, streams: int, priority: int, seconds: float
    ) -> AsyncIterator[None]:
        """Wait for the turn of a request, then let it run while the context lasts.

        Raises ResourceExhausted, with the time that the queue takes, where too many wait, and
        where it cannot end within `seconds`.
        """
        await self._enter(caller, streams, priority, seconds)
        began = self._now()
        try:
            yield
        finally:
            self._leave(caller, streams, began)

    def check(self, caller: str, streams: int, seconds: float) -> None:
        """Raise at once what passing would raise at once; so a request is not read in vain."""
        if not self._queues and self._has_room(streams):
            return
        self._check_time(caller, seconds)
        if self.waiting >= self._most_waiting and self._greediest(caller) == caller:
            raise self._refusal(self._too_many, caller)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._queues.values()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _enter(self, caller: str, streams: int, priority: int, seconds: float) -> None:
        if not self._queues and self._has_room(streams):
            self._take(caller, streams)
            return
        self._check_time(caller, seconds)
        self._check_room(caller)
        future = asyncio.get_running_loop().create_future()
        waiter = Waiter(caller, streams, priority, self._now(), future)
        self._queues.setdefault(caller, []).append(waiter)
        self._look_later()
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            self._forget(waiter)
            raise self._refusal(f"it waited {seconds:.1f} s", caller) from None
        except BaseException:
            self._forget(waiter)
            raise

    def _forget(self, waiter: Waiter) -> None:
        """It waits no longer; what was let in the moment it went gives its place back."""
        queue = self._queues.get(waiter.caller, [])
        if waiter in queue:
            self._remove(waiter)
        elif not waiter.let_in.cancelled() and waiter.let_in.exception() is None:
            self._give_back(waiter.caller, waiter.streams)

    def _remove(self, waiter: Waiter) -> None:
        queue = self._queues[waiter.caller]
        queue.remove(waiter)
        if not queue:
            del self._queues[waiter.caller]

    def _has_room(self, streams: int) -> bool:
        running = sum(self._running.values())
        fits = not running or running + streams <= self._most_streams
        return fits and not self._is_full(running)

    def _take(self, caller: str, streams: int) -> None:
        self._running[caller] = self._running.get(caller, 0) + streams
        self._turns[caller] = next(self._turn)

    def _leave(self, caller: str, streams: int, began: float) -> None:
        now = self._now()
        self._lasts.observe(now - began)
        if self._left_at is not None and self._queues:
            self._pause.observe(now - self._left_at)
        self._left_at = now
        self._give_back(caller, streams)

    def _give_back(self, caller: str, streams: int) -> None:
        self._running[caller] -= streams
        if not self._running[caller]:
            del self._running[caller]
        if caller not in self._running and caller not in self._queues:
            self._turns.pop(caller, None)
        self._let_in()

    def _look(self) -> None:
        self._timer = None
        self._let_in()
        if self._queues:
            self._look_later()

    def _look_later(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK_SECONDS, self._look)

    def _let_in(self) -> None:
        """Let in whose turn it is, while there is room."""
        while self._queues:
            caller = min(self._queues, key=self._share)
            queue = self._queues[caller]
            first = min(queue, key=lambda one: one.rank(self._now()))
            if not self._has_room(first.streams):
                return
            self._remove(first)
            if not first.let_in.done():
                self._take(caller, first.streams)
                first.let_in.set_result(None)

    def _share(self, caller: str) -> tuple[int, int, float]:
        """What a caller has; who has least comes first, then who had a turn longest ago."""
        waits_since = min(one.since for one in self._queues[caller])
        return self._running.get(caller, 0), self._turns.get(caller, 0), waits_since

    def _seconds(self, caller: str) -> float:
        """How long one more of a caller's would wait, about: its own queue, in turn with others."""
        own = len(self._queues.get(caller, ())) + 1
        turns = sum(min(own, len(queue)) for name, queue in self._queues.items() if name != caller)
        return (own + turns) * (self._pause.value or 0.0)

    def _check_time(self, caller: str, seconds: float) -> None:
        needed = self._seconds(caller) + (self._lasts.value or 0.0)
        if needed > seconds:
            what = f"about {needed:.1f} s are needed, and the deadline is in {seconds:.1f} s"
            raise self._refusal(what, caller)

    def _check_room(self, caller: str) -> None:
        """Where too many wait the caller with the most gives up its last, be it this one."""
        if self.waiting < self._most_waiting:
            return
        greediest = self._greediest(caller)
        if greediest == caller:
            raise self._refusal(self._too_many, caller)
        last = max(self._queues[greediest], key=lambda one: one.rank(self._now()))
        self._remove(last)
        if not last.let_in.done():
            last.let_in.set_exception(self._refusal(self._too_many, greediest))

    def _greediest(self, caller: str) -> str:
        """Of the callers that wait, one more of `caller` counted."""
        own = len(self._queues.get(caller, ()))
        most = max(self._queues, key=lambda one: len(self._queues[one]), default=caller)
        return caller if own + 1 >= len(self._queues.get(most, ())) else most

    @property
    def _too_many(self) -> str:
        return f"{self._most_waiting} requests wait, the most that may (--max-queued)"

    def _refusal(self, what: str, caller: str) -> ResourceExhausted:
        after = max(_LEAST_SECONDS, self._seconds(caller)) * (1 + self._spread)
        self._spread = (self._spread + _SPREAD_STEP) % _MOST_SPREAD
        return ResourceExhausted(f"the orchestrator is full: {what}", after)
