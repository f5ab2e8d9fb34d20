"""One request to a page's port, byte for byte, and what came of it."""

import asyncio
import io
import json
from dataclasses import dataclass
from http.client import HTTPResponse
from types import SimpleNamespace
from typing import Any, cast

LINE = b"\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode().rstrip("\n")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; headers with underscores for dashes."""
    given = {"host": "localhost", "content-length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return LINE.join([*(line.encode() for line in head), b"", body])


async def send(port: int, *parts: bytes) -> Answer:
    """The whole answer to what is sent; the connection stays open until it has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
        return parsed(await reader.read())
    finally:
        writer.close()


def parsed(raw: bytes) -> Answer:
    source = SimpleNamespace(makefile=lambda *_: io.BytesIO(raw))
    response = HTTPResponse(cast("Any", source))
    response.begin()
    return Answer(response.status, dict(response.getheaders()), response.read())
