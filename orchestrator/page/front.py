"""The page's front: requests of a browser to Serving, and its events to lines of JSON."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import NoReturn

import grpc

from orchestrator.page.exchange import Body, Refused, WebRequest, WebResponse
from orchestrator.page.messages import error_line, event_line, request_of, status_json
from orchestrator.page.security import HEADERS, JSON, check_host, check_post, names_of
from orchestrator.page.web_server import WebServer
from orchestrator.serving.generation import Serving
from paceline.protocol.status import Status
from paceline.rpc.interceptors import CallInterceptor
from paceline.rpc.options import CLIENT_REQUEST_BYTES
from paceline.rpc.request_id import current_request_id

METHOD = "/page/Generate"
"""What logs, metrics and traces call a stream for the page."""
LINES = "application/x-ndjson"
_FOLDER = Path(__file__).parent
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_METHODS = {**dict.fromkeys(_FILES, "GET"), "/status": "GET", "/generate": "POST"}
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As gRPC's own mapping to HTTP has them; others are 500."""


class Page:
    """The front. `status` and `hindrance`: as the gateway's front has them."""

    def __init__(
        self, serving: Serving, status: Callable[[], Status], hindrance: Callable[[], str]
    ) -> None:
        """It answers calls once it has `calls`, which logs and counts them as those of gRPC."""
        self._serving = serving
        self._status = status
        self._hindrance = hindrance
        self._files = {
            path: WebResponse(200, kind, (_FOLDER / name).read_bytes())
            for path, (name, kind) in _FILES.items()
        }
        self.calls: CallInterceptor | None = None
        self._names: frozenset[str] = frozenset()
        self._server = WebServer(self._handle, HEADERS, CLIENT_REQUEST_BYTES)

    async def start(self, host: str, port: int) -> int:
        """See WebServer."""
        self._names = names_of(host)
        return await self._server.start(host, port)

    def drain(self) -> None:
        """Take no new requests."""
        self._server.drain()

    async def close(self, seconds: float, hurry: asyncio.Event) -> None:
        """See WebServer."""
        await self._server.close(seconds, hurry)

    async def _handle(self, request: WebRequest) -> Body:
        check_host(request.headers, self._names)
        wanted = _METHODS.get(request.path)
        if wanted is None:
            raise Refused(404, f"there is no {request.path[:80]!r} here")
        if request.method != wanted:
            raise Refused(405, f"the method is {request.method[:20]}; it must be {wanted}")
        if request.path == "/generate":
            async with contextlib.aclosing(self._generate(request)) as parts:
                async for part in parts:
                    yield part
        else:
            yield self._files.get(request.path) or self._status_now()

    def _status_now(self) -> WebResponse:
        told = status_json(self._status(), self._serving.models(), self._hindrance())
        return WebResponse(200, JSON, told)

    async def _generate(self, request: WebRequest) -> Body:
        """Lines of the stream; an error before any of them has a status of its own."""
        check_post(request.headers)
        if self.calls is None:
            raise Refused(503, "the orchestrator is starting; try again")
        answered = False
        try:
            async with (
                self.calls.call(_Call(request.headers), METHOD, is_session=False),
                contextlib.aclosing(self._lines(request.body)) as lines,
            ):
                async for one in lines:
                    if not answered:
                        answered = True
                        yield WebResponse(200, LINES)
                    yield one
        except _Aborted as aborted:
            ended = error_line(aborted.code.name.lower(), str(aborted))
            yield ended if answered else WebResponse(_STATUSES.get(aborted.code, 500), JSON, ended)

    async def _lines(self, body: bytes) -> AsyncGenerator[bytes, None]:
        began = asyncio.get_running_loop().time()
        seconds = self._serving.default_seconds
        self._serving.check_door(1, seconds)  # a body is 4 MB at most, and the loop is busy
        asked = request_of(body)
        events = self._serving.generate(asked, seconds=seconds, request_id=current_request_id())
        async with contextlib.aclosing(events):
            async for event in events:
                yield event_line(event, began)


class _Call:
    """What a call of gRPC would say of itself, to what logs and counts calls."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers.items())

    def time_remaining(self) -> None:
        """Browsers give no deadline."""

    async def abort(self, code: grpc.StatusCode, details: str, _: object = ()) -> NoReturn:
        raise _Aborted(code, details)


class _Aborted(Exception):
    """How a call ended that failed."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
