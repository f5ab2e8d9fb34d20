"""One call of a stream on one orchestrator, and what it takes to leave that for another one."""

import asyncio
import contextlib
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
"""An orchestrator that has said nothing for so long is in doubt, where others are named."""
LEEWAY_SECONDS = 0.3
"""So late a sign of life may come."""
ASK_SECONDS = 0.5
"""Another orchestrator is asked for so long whether it can serve, and again after ASK_PAUSE."""
ASK_PAUSE_SECONDS = 0.3
_LOOK_SECONDS = 0.1
_LOOKS = 2


class Attempt:
    """One call. A server that knows of signs of life gives them from its first word on."""

    def __init__(
        self,
        connections: Connections,
        message: generation_pb2.GenerateRequest,
        seconds: float | None,
        metadata: Metadata,
    ) -> None:
        """Begin it; close ends it."""
        self._connections = connections
        self._connection: Connection | None = connections.take()
        self.target = self._connection.target
        self._call = self._connection.generation.Generate(
            message, timeout=seconds, metadata=metadata
        )
        self._left = False

    async def events(self) -> AsyncGenerator[GenerateEvent, None]:
        """Its events; Unavailable where it is lost, or was left."""
        try:
            async for response in self._call:
                yield event_from_proto(response)
        except grpc.aio.AioRpcError as error:
            if self._connection is None:
                raise Cancelled(CANCELLED) from None
            raise self._connection.error(error) from error
        except asyncio.CancelledError:
            if is_cancelled_itself():
                raise
            if self._left:
                raise Unavailable(f"{self.target} is silent, or about to stop") from None
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
        if self._connection is not None:
            self._call.cancel()
            self._connections.done()
            self._connection = None
            del self._call


class Watch:
    """Whether an attempt is silent. Looks are counted: a loop that stands still reads nothing."""

    def __init__(self, on_silence: Callable[[], None]) -> None:
        """Begin to wait for the first word."""
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._looks = 0
        self._reads = True
        self._patience: float | None = FIRST_SECONDS
        self._signs = 0
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def hear(self, event: GenerateEvent, *, gives_signs: bool) -> None:
        """An event has come. gives_signs: whether the server knows of signs of life."""
        sign = isinstance(event, SignOfLife)
        self._signs = self._signs + 1 if sign else 0
        following = SIGN_PAUSES_SECONDS[min(self._signs, len(SIGN_PAUSES_SECONDS) - 1)]
        # What comes right behind a look of the server's is followed by a sign after two of them.
        slack = following + LEEWAY_SECONDS
        self._patience = following + slack if gives_signs or sign else None
        self.reads(True)

    def reads(self, reads: bool) -> None:
        """Whether anybody reads, from now on."""
        self._reads, self._looks, self._heard = reads, 0, self._loop.time()

    def stop(self) -> None:
        """The attempt is over."""
        self._timer.cancel()

    def _look(self) -> None:
        self._looks += 1
        waited = self._loop.time() - self._heard
        late = self._patience is not None and waited > self._patience
        if self._reads and late and self._looks > _LOOKS:
            self._on_silence()
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)


class Elsewhere:
    """Looks for an orchestrator that can go on with a stream whose own is silent, or stops."""

    def __init__(self, connections: Connections) -> None:
        """Look for nothing yet."""
        self._connections = connections
        self._task: asyncio.Task[None] | None = None
        self._stops = False

    def look(self, attempt: Attempt, *, stops: bool = False) -> None:
        """Leave the attempt once another orchestrator can serve. stops: it says so itself.

        Behind one name there may be others, too; which one answers is not known there. So a
        silent one is left only where several are named.
        """
        self._stops = stops or (self._stops and self._task is not None)
        others = stops or self._connections.count > 1
        if others and (self._task is None or self._task.done()):
            self._connections.doubt(attempt.target)
            self._task = asyncio.create_task(self._leave(attempt))

    def hear(self) -> None:
        """The attempt is heard again: one that is about to stop is left all the same."""
        if self._task is not None and not self._stops:
            self.stop()

    def stop(self) -> None:
        """The attempt is over."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _leave(self, attempt: Attempt) -> None:
        while not await self._can_serve():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(ASK_PAUSE_SECONDS)
        attempt.leave()

    async def _can_serve(self) -> bool:
        connection = self._connections.take()
        request = generation_pb2.ListModelsRequest()
        try:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await connection.generation.ListModels(request, timeout=ASK_SECONDS)
                if answer.models:
                    self._connections.trust(connection.target)
                    return True
            return False
        finally:
            self._connections.done()
            del connection
