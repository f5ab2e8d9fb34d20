"""Events of one call that its client has not read yet: bounded, with an error for a slow client."""

import asyncio
from collections.abc import AsyncIterator

from paceline.errors import PacelineError, ResourceExhausted
from paceline.protocol.generation import Delta, GenerateEvent
from paceline.protocol.verdict import PromptLogprobs

BUFFER_BYTES = 4 * 1024 * 1024
"""Events that may wait for a client, about."""
STALLED_SECONDS = 30.0
"""How long the buffer may stay full before the call ends."""
_TOKEN_BYTES = 32


class EventBuffer:
    """Events of all choices of one call, in the order in which they were put."""

    def __init__(self) -> None:
        """Belongs to the running event loop."""
        self._queue: asyncio.Queue[GenerateEvent | PacelineError | None] = asyncio.Queue()
        self._waiting = 0
        self.events_put = 0
        self._drained = asyncio.Event()
        self._filler: asyncio.Task[None] | None = None
        self._aborted = False

    def put(self, event: GenerateEvent) -> None:
        """Add an event; never waits."""
        self._waiting += _weight(event)
        self.events_put += 1
        self._queue.put_nowait(event)

    def end(self, error: PacelineError | None = None) -> None:
        """Nothing more comes: the output is whole, or `error` says why it is not."""
        self._queue.put_nowait(error)

    def filled_by(self, task: "asyncio.Task[None]") -> None:
        """Abort cancels it."""
        self._filler = task
        if self._aborted:
            task.cancel()

    def abort(self, error: PacelineError) -> None:
        """Raise `error` to the reader next, before what waits; cancel the task that fills it.

        The task that reads is gRPC's and must not be cancelled instead: where that happens while
        gRPC writes, gRPC takes the client for gone, and the client waits for ever for a status.
        """
        self._aborted = True
        self._drop()
        self._queue.put_nowait(error)
        if self._filler is not None:
            self._filler.cancel()

    def _drop(self) -> None:
        """Forget what waits."""
        while not self._queue.empty():
            self._queue.get_nowait()

    @property
    def is_read(self) -> bool:
        """Whether nothing waits for the client."""
        return self._queue.empty()

    @property
    def has_room(self) -> bool:
        """Whether the client has read enough for more to be put."""
        return self._waiting < BUFFER_BYTES

    async def room(self) -> None:
        """Wait until the buffer has room; ResourceExhausted after STALLED_SECONDS without."""
        if self.has_room:
            return
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                while self._waiting >= BUFFER_BYTES:
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            error = ResourceExhausted(
                f"the client did not read for {STALLED_SECONDS:g} s; "
                f"{self._waiting} bytes wait, the limit is {BUFFER_BYTES}"
            )
            self._drop()  # gRPC holds the call until its deadline, with what one message takes
            raise error from None

    async def events(self) -> AsyncIterator[GenerateEvent]:
        """Events as they come; raises the error that ended them."""
        while (event := await self._queue.get()) is not None:
            if isinstance(event, PacelineError):
                raise event
            self._waiting -= _weight(event)
            self._drained.set()
            yield event


class UnreadOutputs:
    """Buffers of outputs that have ended, until their clients have read them: so many at most.

    An output that has ended holds no place at the door, so nothing else bounds them.
    """

    def __init__(self, most: int) -> None:
        """Beyond `most` the one that ended first is given up."""
        self._most = most
        self._buffers: dict[EventBuffer, None] = {}  # in the order in which they ended

    def add(self, buffer: EventBuffer) -> None:
        """Its output has ended."""
        self._buffers[buffer] = None
        if len(self._buffers) > self._most:
            oldest = next(iter(self._buffers))
            self.remove(oldest)
            oldest.abort(
                ResourceExhausted(
                    f"the client did not read its output, and {self._most} more that nobody "
                    "reads have ended since, the most that may (twice --max-streams)"
                )
            )

    def remove(self, buffer: EventBuffer) -> None:
        """It was read, or its client has gone."""
        self._buffers.pop(buffer, None)


def _weight(event: GenerateEvent) -> int:
    """Bytes on the wire, about, of what grows with the output or the prompt."""
    if isinstance(event, PromptLogprobs):
        return _TOKEN_BYTES * sum(1 + len(token.top) for token in event.tokens)
    if not isinstance(event, Delta):
        return 0
    logprobs = sum(len(token.logprobs.top) for token in event.tokens if token.logprobs)
    return _TOKEN_BYTES * (len(event.tokens) + logprobs)
