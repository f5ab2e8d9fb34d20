"""Events of one call that its client has not read yet: bounded, with an error for a slow client."""

import asyncio
from collections.abc import AsyncIterator

from paceline.errors import PacelineError, ResourceExhausted
from paceline.mailbox import Mailbox
from paceline.protocol.generation import Delta, GenerateEvent
from paceline.protocol.verdict import PromptLogprobs

BUFFER_BYTES = 4 * 1024 * 1024
"""Events that may wait for a client, about."""
STALLED_SECONDS = 30.0
"""How long a client may read nothing of what waits for it before the call ends."""
RESUME_SECONDS = 0.1
"""A client that reads on after all may go on so soon, with what it has."""
_LOOKS = 6
"""Looks in vain are counted, not seconds: a loop that stands still sends nothing."""
_TOKEN_BYTES = 32


class EventBuffer:
    """Events of all choices of one call, in the order in which they were put."""

    def __init__(self) -> None:
        """Belongs to the running event loop."""
        self._queue: Mailbox[GenerateEvent | PacelineError | None] = Mailbox()
        self._waiting = 0
        self.events_put = self.events_read = 0
        self._drained = asyncio.Event()
        self._filler: asyncio.Task[None] | None = None
        self.aborted: PacelineError | None = None

    def put(self, event: GenerateEvent) -> None:
        """Add an event; never waits."""
        self._waiting += _weight(event)
        self.events_put += 1
        self._queue.put(event)

    def end(self, error: PacelineError | None = None) -> None:
        """Nothing more comes: the output is whole, or `error` says why it is not."""
        self._queue.put(error)

    def filled_by(self, task: "asyncio.Task[None]") -> None:
        """Abort cancels it."""
        self._filler = task
        if self.aborted is not None:
            task.cancel()

    def abort(self, error: PacelineError) -> None:
        """Raise `error` to the reader next, before what waits; cancel the task that fills it.

        The task that reads is gRPC's and must not be cancelled instead: where that happens while
        gRPC writes, gRPC takes the client for gone, and the client waits for ever for a status.
        """
        self.aborted = error
        self._queue.take_all()
        self._queue.put(error)
        if self._filler is not None:
            self._filler.cancel()

    @property
    def is_read(self) -> bool:
        """Whether nothing waits for the client."""
        return not self._queue

    @property
    def has_room(self) -> bool:
        """Whether the client has read enough for more to be put."""
        return self._waiting < BUFFER_BYTES

    async def room(self) -> None:
        """Wait until the buffer has room; ReadWatch ends that where the client reads nothing."""
        while not self.has_room:
            self._drained.clear()
            await self._drained.wait()

    def give_up(self) -> None:
        """The client reads nothing. What waits is dropped: gRPC holds what one message takes."""
        if self.aborted is not None:
            return
        waits = f"{self._waiting} bytes wait, of {BUFFER_BYTES} that may"
        reason = f"the client did not read for {STALLED_SECONDS:g} s; {waits}"
        self.abort(ResourceExhausted(reason, RESUME_SECONDS))

    async def events(self) -> AsyncIterator[GenerateEvent]:
        """Events as they come; raises the error that ended them."""
        while (event := await self._queue.get()) is not None:
            if isinstance(event, PacelineError):
                raise event
            self._waiting -= _weight(event)
            self.events_read += 1
            self._drained.set()
            yield event


class ReadWatch:
    """Gives a call up whose client reads nothing for STALLED_SECONDS of what waits for it."""

    def __init__(self, buffer: EventBuffer) -> None:
        """Look from now on; belongs to the running event loop."""
        self._buffer = buffer
        self._read = 0
        self._looks = 0
        self._timer = self._look_later()

    def stop(self) -> None:
        """The call is over."""
        self._timer.cancel()

    def _look(self) -> None:
        reads = self._buffer.events_read
        waits = self._buffer.events_put > reads == self._read
        self._read, self._looks = reads, self._looks + 1 if waits else 0
        if self._looks < _LOOKS:
            self._timer = self._look_later()
        else:
            self._buffer.give_up()

    def _look_later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(STALLED_SECONDS / _LOOKS, self._look)


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
    logprobs = sum([len(token.logprobs.top) for token in event.tokens if token.logprobs])
    return _TOKEN_BYTES * (len(event.tokens) + logprobs)
