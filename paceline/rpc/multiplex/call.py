"""Many sessions on one call: what they have to say at the same moment is one message.

A message costs gRPC's Python tens of microseconds, whatever is in it; among many sessions that
is most of what a verdict costs.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
import structlog

from paceline.errors import ResourceExhausted
from paceline.rpc.options import MAX_MESSAGE_BYTES
from paceline.rpc.status_codes import closed_to_proto, rpc_error_of
from paceline.v1 import session_pb2

_log = structlog.get_logger(__name__)

LARGEST_BYTES = MAX_MESSAGE_BYTES // 2
"""A session can send no larger message."""
BATCH_BYTES = MAX_MESSAGE_BYTES // 4
"""A batch ends with the message that makes it so large."""
WAITING_BYTES = MAX_MESSAGE_BYTES
"""What may wait to be sent before those who send more have to wait."""

UNREAD_RESPONSES = 256
"""Messages of one session that may wait to be read; more than it was asked for is never sent."""

_ENDED = closed_to_proto(grpc.StatusCode.UNAVAILABLE, "the server ended the call")
_FLOODED = closed_to_proto(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    f"{UNREAD_RESPONSES} responses wait, the limit for one session",
)

Message = TypeVar("Message", bound=Any)


class Batches(Generic[Message]):
    """Messages of many sessions on their way out: those that wait together go together."""

    def __init__(self) -> None:
        """Belongs to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    async def put(self, message: Message) -> None:
        """Add a message, once WAITING_BYTES have room for it.

        Raises ResourceExhausted for one of more than LARGEST_BYTES.
        """
        await self.room()
        self.add(message)

    @property
    def has_room(self) -> bool:
        """Whether WAITING_BYTES have room."""
        return self._room.is_set()

    async def room(self) -> None:
        """Wait until WAITING_BYTES have room."""
        while not self._room.is_set():
            await self._room.wait()

    def add(self, message: Message) -> None:
        """As put, for a few bytes that need no room."""
        size = message.ByteSize()
        if size > LARGEST_BYTES:
            limit = f"the limit on a shared call is {LARGEST_BYTES}"
            raise ResourceExhausted(f"a message has {size} bytes; {limit}", None)
        if self._closed:
            return
        self._waiting.append((message, size))
        self._bytes += size
        if self._bytes > WAITING_BYTES:
            self._room.clear()
        self._wake()

    async def take(self) -> list[Message]:
        """All that wait, in order, up to BATCH_BYTES; waits for the first.

        An empty list is the end: it was closed, and all has been taken.
        """
        while not self._waiting and not self._closed:
            self._reader = self._loop.create_future()
            await self._reader
        batch: list[Message] = []
        taken = 0
        while self._waiting and taken < BATCH_BYTES:
            message, size = self._waiting.popleft()
            batch.append(message)
            taken += size
        self._bytes -= taken
        if self._bytes <= WAITING_BYTES:
            self._room.set()
        return batch

    def close(self) -> None:
        """Take no more: what is put is dropped, and nobody waits for room."""
        self._closed = True
        self._room.set()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class SharedSession:
    """One session on a shared call, to be used like a call that is one session."""

    def __init__(self, number: int, out: Batches[Any], leave: Callable[[int], None]) -> None:
        """`leave` is called with the number when the session is cancelled."""
        self._number = number
        self._out = out
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._responses: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._left = False

    async def write(self, request: Any) -> None:
        """Send a request, unless it has been cancelled: what opens it must not follow its close."""
        request.session = self._number
        if not self._out.has_room:
            await self._out.room()
        if not self._left:
            self._out.add(request)

    async def read(self) -> Any:
        """The next response, or grpc.aio.EOF; raises the AioRpcError that ended the session."""
        while not self._responses:
            self._reader = self._loop.create_future()
            await self._reader
        if isinstance(self._responses[0], grpc.aio.AioRpcError):
            raise self._responses[0]
        return self._responses.popleft()

    def cancel(self) -> None:
        """End the session; who reads is cancelled."""
        self._left = True
        self._leave(self._number)
        if self._reader is not None:
            self._reader.cancel()

    def deliver(self, response: Any) -> None:
        """Add a response, EOF, or an AioRpcError, which ends the session.

        So does the server, with more than UNREAD_RESPONSES that wait: nobody asked for so many.
        """
        ends = isinstance(response, grpc.aio.AioRpcError) or response is grpc.aio.EOF
        if not ends and len(self._responses) >= UNREAD_RESPONSES:
            response = rpc_error_of(_FLOODED)
            self._leave(self._number)
        self._responses.append(response)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _log_bug(task: "asyncio.Task[None]") -> None:
    """Nobody awaits the tasks of a call: what went wrong in them is told here, and its sessions."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a shared call failed", exc_info=error)


class SharedCall:
    """A call that sessions join as they begin; when the last has left it ends."""

    def __init__(
        self,
        call: "grpc.aio.StreamStreamCall[Any, Any]",
        request_type: Callable[..., Any],
        shared_type: Callable[..., Any],
    ) -> None:
        """`call` has just begun. Sessions send a request_type, the call a shared_type of them."""
        self._call = call
        self._request_type = request_type
        self._shared_type = shared_type
        self._out: Batches[Any] = Batches()
        self._sessions: dict[int, SharedSession] = {}
        self._numbers = itertools.count(1)
        self.ended = False
        self._tasks = (asyncio.create_task(self._write()), asyncio.create_task(self._read()))
        for task in self._tasks:
            task.add_done_callback(_log_bug)

    def join(self) -> SharedSession:
        """A new session."""
        number = next(self._numbers)
        session = self._sessions[number] = SharedSession(number, self._out, self._leave)
        return session

    def _leave(self, number: int) -> None:
        open_there = self._sessions.pop(number, None) is not None
        if not self._sessions:
            self._end()
        elif open_there:
            self._out.add(self._request_type(session=number, close=session_pb2.Close()))

    def _end(self) -> None:
        self.ended = True
        self._out.close()
        self._call.cancel()
        for task in self._tasks:
            task.cancel()

    async def _write(self) -> None:
        # When the call has ended the read says why.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await self._call.write(self._shared_type(requests=await self._out.take()))

    async def _read(self) -> None:
        error = rpc_error_of(_ENDED)
        try:
            message: Any
            while (message := await self._call.read()) is not grpc.aio.EOF:
                for response in message.responses:
                    self._deliver(response)
        except grpc.aio.AioRpcError as raised:
            error = raised
        finally:
            sessions, self._sessions = self._sessions, {}
            for session in sessions.values():
                session.deliver(error)
            self._end()

    def _deliver(self, response: Any) -> None:
        session = self._sessions.get(response.session)
        if session is None:  # it was cancelled, and this was on its way
            return
        if response.WhichOneof("message") != "closed":
            session.deliver(response)
        else:
            del self._sessions[response.session]
            session.deliver(rpc_error_of(response.closed) or grpc.aio.EOF)
