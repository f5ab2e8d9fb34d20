"""HTTP that is wrong, too long, too slow, too much, or gone: refused, bounded, ended."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from orchestrator.page import exchange, web_server
from orchestrator.page.exchange import Body, Refused, WebRequest, WebResponse
from orchestrator.page.web_server import Handler, WebServer
from paceline.errors import Unavailable
from tests.servers import eventually
from tests.web import LINE, request, send

MOST = 1000
NONE = asyncio.Event


async def echo(asked: WebRequest) -> Body:
    yield WebResponse(200, "text/plain", asked.body or asked.path.encode())


@contextlib.asynccontextmanager
async def serving(handler: Handler = echo) -> AsyncIterator[tuple[WebServer, int]]:
    server = WebServer(handler, (("X-Own", "always"),), MOST)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        server.drain()
        await server.close(0.0, NONE())


async def test_a_request_is_answered_and_the_connection_ends() -> None:
    async with serving() as (_, port):
        answer = await send(port, request("POST", "/x", b"hello"))
        assert (answer.status, answer.text) == (200, "hello")
        assert answer.headers["X-Own"] == "always"
        assert answer.headers["Connection"] == "close"
        assert (await send(port, request("GET", "/there?query=1"))).text == "/there"


async def test_parts_come_as_they_are_made() -> None:
    go_on = asyncio.Event()

    async def handler(_: WebRequest) -> Body:
        yield WebResponse(200, "text/plain")
        yield b"one"
        await go_on.wait()
        yield b"two"

    async with serving(handler) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/"))
        assert (await reader.readuntil(b"one")).count(b"two") == 0
        go_on.set()
        assert b"two" in await reader.read()
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"no HTTP at all\r\n\r\n", 400, "illegal request line"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host: header"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "Found multiple Host: headers"),
        (request("GET", "/", long="x" * 100_000), 431, "Receive buffer too long"),
        (request("POST", "/", b"x" * (MOST + 1)), 413, f"it must be at most {MOST} bytes"),
        (request("HEAD", "/"), 405, ""),
    ],
)
async def test_what_cannot_be_served_is_refused(sent: bytes, status: int, said: str) -> None:
    async with serving() as (_, port):
        answer = await send(port, sent)
        assert answer.status == status
        assert said in answer.text
        assert answer.headers["X-Own"] == "always"


async def test_a_refusal_of_the_handler_is_a_line_of_text() -> None:
    async def handler(_: WebRequest) -> Body:
        raise Refused(404, "nothing here")
        yield b""

    async with serving(handler) as (_, port):
        answer = await send(port, request("GET", "/"))
        assert (answer.status, answer.text) == (404, "nothing here")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_request_that_does_not_come_whole_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "READ_SECONDS", 0.05)
    async with serving() as (_, port):
        answer = await send(port, b"GET / HTTP/1.1\r\nhost: a\r\n")
        assert answer.status == 408
        assert answer.text == "the request was not whole after 0.05 s"


async def test_connections_over_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "MOST_CONNECTIONS", 1)
    async with serving() as (server, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)

        async def connected() -> bool:
            return len(server._connections) == 1

        await eventually(connected)
        answer = await send(port)
        assert answer.status == 503
        assert answer.text == "1 connections are open, the limit"
        first.close()


async def test_a_handler_ends_with_its_client() -> None:
    ended = asyncio.Event()

    async def handler(_: WebRequest) -> Body:
        try:
            yield WebResponse(200, "text/plain")
            yield b"one"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(handler) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/"))
        await reader.readuntil(b"one")
        assert not ended.is_set()
        writer.close()
        await asyncio.wait_for(ended.wait(), 30)


async def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "STALLED_SECONDS", 0.05)
    ended = asyncio.Event()

    async def handler(_: WebRequest) -> Body:
        try:
            yield WebResponse(200, "text/plain")
            while True:
                yield bytes(1_000_000)
        finally:
            ended.set()

    async with serving(handler) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(request("GET", "/"))
        await asyncio.wait_for(ended.wait(), 30)
        del reader
        writer.close()


@pytest.mark.parametrize("hurried", [True, False])
async def test_what_runs_has_its_time_to_end_unless_it_is_hurried(hurried: bool) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def handler(_: WebRequest) -> Body:
        yield WebResponse(200, "text/plain")
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        yield b""

    async with serving(handler) as (server, port):
        asking = asyncio.create_task(send(port, request("GET", "/")))
        await began.wait()
        server.drain()
        hurry = asyncio.Event()
        closing = asyncio.create_task(server.close(1000.0 if hurried else 0.05, hurry))
        await asyncio.sleep(0)
        assert not ended.is_set()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        if hurried:
            hurry.set()
        await asyncio.wait_for(closing, 30)
        assert ended.is_set()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{port} for the page: "):
            await WebServer(echo, (), MOST).start("127.0.0.1", port)


async def test_half_a_request_and_then_nothing_is_no_error() -> None:
    async with serving() as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1" + LINE)
        writer.close()
        assert (await send(port, request("GET", "/"))).status == 200

        async def none_left() -> bool:
            return not server._connections

        await eventually(none_left)
