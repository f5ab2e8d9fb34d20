"""One HTTP request and its response, on a connection that ends with them.

h11 knows the protocol. What it refuses is refused with the status it names.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any

import h11

MOST_HEADER_BYTES = 16 * 1024
"""What is longer is refused where it has not come whole in one read."""
READ_SECONDS = 10.0
"""How long a request may take to arrive."""
STALLED_SECONDS = 30.0
"""How long a browser may leave unread what was sent to it."""
_LINGER_SECONDS = 1.0
"""What is closed while a client still sends may lose the answer on its way."""
_READ_BYTES = 16 * 1024

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request, whole. headers: by name in small letters; of a name that comes again the last."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class WebResponse:
    """What is answered. body: None where parts follow, as they come."""

    status: int
    content_type: str
    body: bytes | None = None


Body = AsyncGenerator[WebResponse | bytes, None]
"""The response, then its parts."""


class Refused(Exception):
    """A request that is answered with a status and a line of text."""

    def __init__(self, status: int, reason: str) -> None:
        """reason: for who asked."""
        super().__init__(reason)
        self.status = status


class Exchange:
    """A connection, for one request and its response."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Headers
    ) -> None:
        """headers: of whatever is answered."""
        self._reader = reader
        self._writer = writer
        self._headers = headers
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)
        self._answered = False

    async def request(self, most_body_bytes: int) -> WebRequest:
        """The request, whole; Refused where it takes too long, or its body is too large."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                head = await self._event()
                if not isinstance(head, h11.Request):
                    raise ConnectionResetError("it went away before it asked")
                return _request(head, await self._body(most_body_bytes))
        except TimeoutError:
            raise Refused(408, f"the request was not whole after {READ_SECONDS:g} s") from None

    async def _body(self, most_bytes: int) -> bytes:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > most_bytes:
                raise Refused(413, f"the body is too long; it must be at most {most_bytes} bytes")
        return bytes(body)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def unless_gone(self, answering: Coroutine[Any, Any, None]) -> None:
        """Answer; given up as soon as the client closes the connection."""
        answer = asyncio.ensure_future(answering)
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
        if not answer.cancelled():
            answer.result()

    async def respond(self, response: WebResponse | bytes, parts: Body | None = None) -> None:
        """Send it, and the parts that follow; the connection ends with it."""
        if self._answered or not isinstance(response, WebResponse):
            raise ConnectionAbortedError("it is too late for a response")
        self._answered = True
        body = response.body
        headers = [*self._headers, ("Content-Type", response.content_type), ("Connection", "close")]
        if body is not None:
            headers.append(("Content-Length", str(len(body))))
        await self._send(h11.Response(status_code=response.status, headers=headers))
        if body:
            await self._send(h11.Data(body))
        elif body is None and parts is not None:
            async for part in parts:
                if isinstance(part, bytes):
                    await self._send(h11.Data(part))
        await self._send(h11.EndOfMessage())

    async def refuse(self, status: int, reason: str) -> None:
        """Answer with a line of text, and let what the client still sends pass."""
        line = f"{reason}\n".encode() if reason else b""
        await self.respond(WebResponse(status, "text/plain; charset=utf-8", line))
        with contextlib.suppress(TimeoutError, OSError):
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_READ_BYTES):
                    pass

    async def _send(self, event: h11.Event) -> None:
        """Raises TimeoutError where the client does not read."""
        self._writer.write(self._http.send(event) or b"")
        async with asyncio.timeout(STALLED_SECONDS):
            await self._writer.drain()


def _request(head: h11.Request, body: bytes) -> WebRequest:
    headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    method, target = head.method.decode(), head.target.decode("latin-1")
    if method == "HEAD":
        raise Refused(405, "")
    return WebRequest(method, target.partition("?")[0], headers, body)
