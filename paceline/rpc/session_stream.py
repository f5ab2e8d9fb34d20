"""One session as one bidirectional stream: the half that Draft and Verify handlers share."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Generic, TypeVar

import structlog

from paceline.errors import Internal, InvalidArgument, PacelineError
from paceline.rpc.event_loop import TIMER_SECONDS

_log = structlog.get_logger(__name__)

Request = TypeVar("Request")
Item = TypeVar("Item")

HELD_SECONDS = 0.0005
"""What a worker delivers in one step may wait so long for the rest."""
MOST_WAITING = 256
"""Items that wait to be sent before a session is asked for no more until some have gone."""
PROGRESS_SECONDS = 1.0
"""A stream that has nothing to say shows a sign of life this often."""


class Outbox(Generic[Item]):
    """What a worker thread delivers and a handler sends, in order, until an error ends it.

    Its bound is MOST_WAITING and what one step adds: a worker asks has_room before it begins one.
    """

    def __init__(self, joined_in: Callable[[], float] = lambda: math.inf) -> None:
        """Belongs to the running event loop.

        joined_in: seconds until more comes that what is there had better wait for, about; infinity
        where nothing does.
        """
        self._loop = asyncio.get_running_loop()
        self._joined_in = joined_in
        self._waiting: deque[Item | PacelineError | None] = deque()
        self._woken = self._held_up = False
        self._due: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.Future[None] | None = None

    def deliver(self, item: Item | PacelineError | None) -> None:
        """Add an item, an error that ends the stream, or None for its end; on any thread."""
        if self.add(item) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.look)

    def add(self, item: Item | PacelineError | None) -> bool:
        """As deliver, but whether look must be called now, on the loop, is left to the caller."""
        self._waiting.append(item)
        woken, self._woken = self._woken, True
        return not woken

    def has_room(self) -> bool:
        """Whether there is room for what a step comes to; on any thread."""
        # Said first, and taken back: whoever makes room in between sees that it is waited for.
        self._held_up = True
        if len(self._waiting) < MOST_WAITING:
            self._held_up = False
            return True
        return False

    def made_room(self) -> bool:
        """Whether has_room said no since this was asked, and would not now; on the loop."""
        if not self._held_up or len(self._waiting) >= MOST_WAITING:
            return False
        self._held_up = False
        return True

    def expect_within(self, seconds: Sequence[float]) -> None:
        """Items are wanted at these moments, ascending: until the next they may share a message."""
        now = self._loop.time()
        self._due = deque(now + moment for moment in seconds)
        if self._waiting:
            self.look()

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        """Items as they come, more than one where they waited; none after PROGRESS_SECONDS.

        Raises the error that was delivered, behind what came before it.
        """
        while True:
            await self._come()
            batch: list[Item] = []
            while self._waiting:
                item = self._waiting.popleft()
                if isinstance(item, PacelineError) or item is None:
                    if batch:
                        yield batch
                    if item is None:
                        return
                    raise item
                batch.append(item)
            yield batch

    async def _come(self) -> None:
        """Wait until something is there and due, PROGRESS_SECONDS at most."""
        self._reader = self._loop.create_future()
        progress = self._loop.call_later(PROGRESS_SECONDS, self._release)
        try:
            self.look()
            await self._reader
        finally:
            progress.cancel()
            self._reader = None

    def look(self) -> None:
        """Release what is there: at once if it is due, or nothing joins it before; else later."""
        self._woken = False
        if not self._waiting or self._reader is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_due():
            self._release()
        elif self._loop.time() + self._joined_in() > self._due[0]:
            self._due.popleft()  # it was for those that go now
            self._release()
        else:
            self._timer = self._loop.call_at(self._due[0], self.look)

    def _is_due(self) -> bool:
        """Whether a moment has passed that was waited for, none is left, or all is said."""
        passed = isinstance(self._waiting[-1], PacelineError | None)
        while self._due and self._due[0] <= self._loop.time() + TIMER_SECONDS:
            self._due.popleft()
            passed = True
        return passed or not self._due

    def _release(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Deliveries:
    """What the worker delivers to outboxes in one step; the event loop is woken once for all.

    Woken for each it would contend with the worker for the interpreter, and what could share
    a message would go one by one.
    """

    def __init__(self) -> None:
        """Belongs to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._filled: list[Outbox[Any]] = []
        self._since = 0.0

    def deliver(self, outbox: Outbox[Any], item: Any) -> None:
        """Add an item to an outbox of this loop, to be seen after flush; on the worker."""
        if outbox.add(item):
            if not self._filled:
                self._since = time.perf_counter()
            self._filled.append(outbox)
        if self._filled and time.perf_counter() - self._since > HELD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Have the loop look at what was delivered; on the worker."""
        if self._filled and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_look_at, self._filled)
        self._filled = []


def _look_at(outboxes: list[Outbox[Any]]) -> None:
    for outbox in outboxes:
        outbox.look()


async def first_message(requests: AsyncIterator[Request], kind: str, seconds: float) -> Request:
    """The message that opens the session, waited for `seconds`.

    Raises InvalidArgument when the stream ends, or the time does, without a message.
    `kind` names what it should be.
    """
    try:
        async with asyncio.timeout(seconds):
            async for request in requests:
                return request
    except TimeoutError:
        raise InvalidArgument(f"the first message, {kind}, did not come in {seconds:g} s") from None
    raise InvalidArgument(f"the stream ended before its first message, {kind}")


async def read_into(
    requests: AsyncIterator[Request], handle: Callable[[Request], None], outbox: Outbox[Item]
) -> None:
    """Hand each request to `handle`; its error, or the end of the requests, goes to the outbox."""
    try:
        async for request in requests:
            handle(request)
    except PacelineError as error:
        outbox.deliver(error)
    except Exception:
        _log.exception("a message was not handled")
        outbox.deliver(Internal("a bug ended the session"))
    else:
        outbox.deliver(None)
