"""The server's side of a shared call: each session is served as if it had a call of its own."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import structlog

from paceline.errors import DeadlineExceeded, Internal, PacelineError, ResourceExhausted
from paceline.rpc.deadline import DEFAULT_SECONDS, LONGEST_SECONDS
from paceline.rpc.multiplex.call import Batches
from paceline.rpc.request_id import HEADER
from paceline.rpc.status_codes import closed_to_proto, code_of, trailing_metadata
from paceline.tracing.context import TRACEPARENT, TRACESTATE
from paceline.v1 import session_pb2

_log = structlog.get_logger(__name__)

UNREAD = 256
"""Requests of one session that may wait for it; sessions read theirs at once."""

Handler = Callable[[AsyncIterator[Any], Any], AsyncGenerator[Any, None]]
"""Of a method whose calls are one session each: requests and context in, responses out."""


class SessionContext:
    """What a session on a shared call has of a servicer's context."""

    def __init__(self, opening: session_pb2.Open) -> None:
        """Begin its time."""
        self._metadata = _metadata(opening)
        self._loop = asyncio.get_running_loop()
        given = opening.timeout_seconds
        seconds = given if 0 < given <= LONGEST_SECONDS else DEFAULT_SECONDS
        self._deadline = self._loop.time() + seconds
        self.closed = closed_to_proto(grpc.StatusCode.OK, "")

    def time_remaining(self) -> float:
        """Seconds until its deadline."""
        return self._deadline - self._loop.time()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call of its own would carry."""
        return self._metadata

    def fail(self, error: PacelineError) -> None:
        """End with an error."""
        self.closed = closed_to_proto(code_of(error), str(error), trailing_metadata(error))

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing: Sequence[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """What a servicer's context does: end with an error, at once."""
        self.closed = closed_to_proto(code, details, trailing)
        raise grpc.aio.AbortError


def _metadata(opening: session_pb2.Open) -> tuple[tuple[str, str], ...]:
    pairs = (
        (HEADER, opening.request_id),
        (TRACEPARENT, opening.traceparent),
        (TRACESTATE, opening.tracestate),
    )
    return tuple((key, value) for key, value in pairs if value)


@dataclass(eq=False)
class _Session:
    """Requests wait here for the task that serves them."""

    requests: asyncio.Queue[Any]
    task: "asyncio.Task[None]"


class SharedService:
    """The sessions of one shared call."""

    def __init__(
        self, handler: Handler, response_type: Callable[..., Any], shared_type: Callable[..., Any]
    ) -> None:
        """`handler` serves a session with response_types; the call sends shared_types of them."""
        self._handler = handler
        self._response_type = response_type
        self._shared_type = shared_type
        self._out: Batches[Any] = Batches()
        self._sessions: dict[int, _Session] = {}

    async def messages(self, requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Responses to what is in `requests`; those that wait together come together.

        However it ends, all sessions have been freed then. Raises ResourceExhausted when
        a session is sent more than it reads.
        """
        reading = asyncio.create_task(self._read(requests))
        reading.add_done_callback(lambda _: self._out.close())
        try:
            while batch := await self._out.take():
                yield self._shared_type(responses=batch)
            await reading
        finally:
            tasks = [reading, *(session.task for session in self._sessions.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, messages: AsyncIterator[Any]) -> None:
        async for message in messages:
            for request in message.requests:
                self._hand_on(request)

    def _hand_on(self, request: Any) -> None:
        """Give a request to its session. One of a session that has ended was on its way."""
        session = self._sessions.get(request.session)
        kind = request.WhichOneof("message")
        if session is None:
            if kind == "open":
                self._begin(request)
        elif kind == "close":
            session.task.cancel()
        elif session.requests.full():
            raise ResourceExhausted(f"{UNREAD} requests of session {request.session} wait", None)
        else:
            session.requests.put_nowait(request)

    def _begin(self, request: Any) -> None:
        number = request.session
        requests: asyncio.Queue[Any] = asyncio.Queue(UNREAD)
        requests.put_nowait(request)
        serving = self._serve(number, requests, SessionContext(request.open))
        task = asyncio.create_task(serving)
        task.add_done_callback(lambda _: self._sessions.pop(number))
        self._sessions[number] = _Session(requests, task)

    async def _serve(
        self, number: int, requests: asyncio.Queue[Any], context: SessionContext
    ) -> None:
        """One session, to its Closed; cancelled where nobody waits for that."""
        try:
            async with (
                asyncio.timeout(context.time_remaining()),
                contextlib.aclosing(self._handler(_each(requests), context)) as responses,
            ):
                async for response in responses:
                    response.session = number
                    await self._out.put(response)
        except grpc.aio.AbortError:
            pass  # the context knows why
        except TimeoutError:
            context.fail(DeadlineExceeded("the deadline has passed"))
        except PacelineError as error:
            context.fail(error)
        except Exception:
            _log.exception("session failed")
            context.fail(Internal("a bug ended the session"))
        await self._out.put(self._response_type(session=number, closed=context.closed))


async def _each(requests: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while True:
        yield await requests.get()
