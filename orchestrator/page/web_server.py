"""HTTP/1.1 for a page: one request a connection; bounded in bytes, seconds and connections.

exchange.py speaks it. What is asked goes to a handler.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import h11

from orchestrator.page.exchange import Body, Exchange, Headers, Refused, WebRequest
from paceline.addresses import ANY_IPV4, join, without_brackets
from paceline.best_effort import best_effort
from paceline.errors import Unavailable

MOST_CONNECTIONS = 32
"""A browser opens six; what is over this is refused with 503."""

Handler = Callable[[WebRequest], Body]


class WebServer:
    """Listens, and has a handler answer."""

    def __init__(self, handler: Handler, headers: Headers, most_body_bytes: int) -> None:
        """Nothing is taken before `start`. headers: of every response."""
        self._handler = handler
        self._headers = headers
        self._most_body_bytes = most_body_bytes
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._drained_at = 0.0

    async def start(self, host: str, port: int) -> int:
        """Listen, port 0 at any; returns the port. Raises Unavailable where that cannot be."""
        bare = None if host == ANY_IPV4 else without_brackets(host)  # None: of both families
        try:
            self._server = await asyncio.start_server(self._connected, bare, port)
        except OSError as error:
            what = f"cannot listen on {join(host, port)} for the page"
            raise Unavailable(f"{what}: {error.strerror or error}") from error
        return int(self._server.sockets[0].getsockname()[1])

    def drain(self) -> None:
        """Take no new connections."""
        self._drained_at = asyncio.get_running_loop().time()
        if self._server is not None:
            self._server.close()

    async def close(self, seconds: float, hurry: asyncio.Event) -> None:
        """End what runs: so many seconds after `drain`, or when `hurry` is set."""
        left = self._drained_at + seconds - asyncio.get_running_loop().time()
        running = set(self._connections)
        ended: asyncio.Future[Any] = asyncio.gather(*running, return_exceptions=True)
        hurried: asyncio.Future[Any] = asyncio.ensure_future(hurry.wait())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait({ended, hurried}, timeout=max(0.0, left), return_when=first)
        for task in (*running, hurried):
            task.cancel()
        await asyncio.gather(*running, hurried, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never raises: what asyncio makes of that is no log line of ours."""
        exchange = Exchange(reader, writer, self._headers)
        full = len(self._connections) >= MOST_CONNECTIONS
        task = asyncio.create_task(self._exchange(exchange, full=full))
        self._connections.add(task)
        await asyncio.gather(task, return_exceptions=True)
        self._connections.discard(task)
        writer.close()

    async def _exchange(self, exchange: Exchange, *, full: bool) -> None:
        with best_effort("the page"), contextlib.suppress(ConnectionError, TimeoutError):
            if full:
                await exchange.refuse(503, f"{MOST_CONNECTIONS} connections are open, the limit")
            else:
                await self._serve(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        """Read a request, and answer it as long as there is a client."""
        try:
            request = await exchange.request(self._most_body_bytes)
            await exchange.unless_gone(self._answer(exchange, request))
        except h11.RemoteProtocolError as error:
            await exchange.refuse(error.error_status_hint, str(error))
        except Refused as refused:
            await exchange.refuse(refused.status, str(refused))

    async def _answer(self, exchange: Exchange, request: WebRequest) -> None:
        async with contextlib.aclosing(self._handler(request)) as parts:
            await exchange.respond(await anext(parts), parts)
