"""One call of a stream on one orchestrator, and what it takes to leave that for another one."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import grpc

from paceline.client.connections import Connection, Connections
from paceline.errors import Cancelled, Unavailable
from paceline.protocol.generation import SIGN_PAUSES_SECONDS, GenerateEvent, SignOfLife
from paceline.rpc.codec.generation import event_from_proto
from paceline.rpc.status_codes import is_cancelled_itself
from paceline.tracing.context import Metadata
from paceline.v1 import generation_pb2

CANCELLED = "the stream was cancelled, or its client closed"
FIRST_SECONDS = 1.0
"""An orchestrator that has said nothing for so long is silent, where others are named."""
LEEWAY_SECONDS = 0.3
"""So late a sign of life may come."""
LATE_SECONDS = 0.3
"""What takes longer, and twice as long as what came of late, makes an orchestrator doubtful: it is
asked, and one that does not answer either is silent before its signs of life are late."""
ALIVE_SECONDS = 0.3
"""So long it may take to answer; one that has is not asked again before ASK_PAUSE."""
ASK_PAUSE_SECONDS = 0.3
"""Another orchestrator that cannot serve is asked again after this."""
_FORGET = 0.9
_LOOK_SECONDS = 0.1
_LOOKS = 2


class Attempt:
    """One call. A server that knows of signs of life gives them from its first word on."""

    def __init__(
        self,
        connections: Connections,
        connection: Connection,
        message: generation_pb2.GenerateRequest,
        seconds: float | None,
        metadata: Metadata,
    ) -> None:
        """Begin it on a connection that was taken; close ends it, and is done with that."""
        self._connections = connections
        self.connection: Connection | None = connection
        self._call = connection.generation.Generate(message, timeout=seconds, metadata=metadata)
        self._left = False

    async def events(self) -> AsyncGenerator[GenerateEvent, None]:
        """Its events; Unavailable where it is lost, or was left."""
        try:
            async for response in self._call:
                yield event_from_proto(response)
        except grpc.aio.AioRpcError as error:
            if self.connection is None:
                raise Cancelled(CANCELLED) from None
            raise self.connection.error(error) from error
        except asyncio.CancelledError:
            if is_cancelled_itself():
                raise
            if self._left:
                where = self.connection.target if self.connection is not None else "it"
                raise Unavailable(f"{where} is silent, or about to stop") from None
            raise Cancelled(CANCELLED) from None

    @property
    def left(self) -> bool:
        """Whether the stream goes on elsewhere, where somebody was there a moment ago."""
        return self._left

    def leave(self) -> None:
        """End it, as another orchestrator can go on."""
        self._left = True
        self.cancel()

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()

    def close(self) -> None:
        """End it, and hold no connection any more: see forks."""
        if self.connection is not None:
            self._call.cancel()
            self._connections.done()
            self.connection = None
            del self._call


class Watch:
    """Whether an attempt is silent. Looks are counted: a loop that stands still reads nothing.

    on_silence: told, again and again, that nothing comes; surely: that signs of life are late.
    """

    def __init__(self, on_silence: Callable[[bool], None]) -> None:
        """Begin to wait for the first word."""
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._slowest = 0.0
        self._looks = 0
        self._reads = True
        self._patience: float | None = FIRST_SECONDS
        self._signs = 0
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def hear(self, event: GenerateEvent, *, gives_signs: bool) -> None:
        """An event has come, and was taken. gives_signs: whether the server knows of those."""
        sign = isinstance(event, SignOfLife)
        self._signs = self._signs + 1 if sign else 0
        following = SIGN_PAUSES_SECONDS[min(self._signs, len(SIGN_PAUSES_SECONDS) - 1)]
        # What comes right behind a look of the server's is followed by a sign after two of them.
        slack = following + LEEWAY_SECONDS
        self._patience = following + slack if gives_signs or sign else None
        self._reads, self._looks, self._heard = True, 0, self._loop.time()

    def rest(self) -> None:
        """An event has come. Nothing is read until it is taken."""
        now = self._loop.time()
        self._slowest = max(now - self._heard, _FORGET * self._slowest)
        self._reads, self._looks, self._heard = False, 0, now

    def stop(self) -> None:
        """The attempt is over."""
        self._timer.cancel()

    def _look(self) -> None:
        self._looks += 1
        waited = self._loop.time() - self._heard
        if self._reads and self._patience is not None and self._looks > _LOOKS:
            if waited > self._patience:
                self._on_silence(True)
            elif waited > max(LATE_SECONDS, 2 * self._slowest):
                self._on_silence(False)
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)


class Elsewhere:
    """Looks for an orchestrator that can go on with a stream whose own is silent, or stops."""

    def __init__(self, connections: Connections) -> None:
        """Look for nothing yet."""
        self._connections = connections
        self._task: asyncio.Task[None] | None = None
        self._sure = self._stops = False

    def look(self, attempt: Attempt, *, sure: bool = False, stops: bool = False) -> None:
        """Leave the attempt once another orchestrator can serve.

        sure: its own does not live; else it is asked first. stops: it says so itself.
        """
        others = stops or self._connections.count > 1
        self._stops |= stops
        if (stops or sure) and not self._sure:
            self._end()  # what is under way asks it first
        if attempt.connection is None or not others or self._looks:
            return
        self._sure = sure or stops
        if self._sure:
            self._connections.doubt(attempt.connection.address)
        self._task = asyncio.create_task(self._leave(attempt, attempt.connection, self._sure))

    def hear(self) -> None:
        """The attempt is heard again: one that is about to stop is left all the same."""
        if not self._stops:
            self._end()

    def stop(self) -> None:
        """The attempt is over."""
        self._stops = False
        self._end()

    @property
    def _looks(self) -> bool:
        return self._task is not None and not self._task.done()

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task, self._sure = None, False

    async def _leave(self, attempt: Attempt, own: Connection, sure: bool) -> None:
        if not sure and await self._connections.answers(own, ALIVE_SECONDS):
            await asyncio.sleep(ASK_PAUSE_SECONDS)
            return
        self._connections.doubt(own.address)
        while not await self._another_serves(own):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(ASK_PAUSE_SECONDS)
        attempt.leave()

    async def _another_serves(self, own: Connection) -> bool:
        other = await self._connections.take(own)
        try:
            serves = await other.can_serve()
            if serves:
                self._connections.trust(other.address)
            return serves
        finally:
            self._connections.done()
            del other
