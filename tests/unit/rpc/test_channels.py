"""What a name stands for."""

import asyncio
import socket
from typing import Any

import pytest

from paceline.errors import Unavailable
from paceline.rpc.channels import resolve

FOUND = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 7070, 0, 4)),
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 7070, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7070)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7070)),
]


async def test_a_name_stands_for_addresses_of_both_families(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(host: str, port: str, **_: object) -> Any:
        assert (host, port) == ("here", "7070")
        return FOUND

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await resolve("here:7070") == ["127.0.0.1:7070", "[::1]:7070", "[fe80::1%4]:7070"]


async def test_numbers_stand_for_themselves() -> None:
    assert await resolve("[::1]:7070") == ["[::1]:7070"]
    assert await resolve("unix:/tmp/here") == ["unix:/tmp/here"]


@pytest.mark.parametrize("name", ["a..b", "a" * 64 + ".b", "no-such-host.invalid"])
async def test_a_name_that_is_none_is_said(name: str) -> None:
    with pytest.raises(Unavailable, match=f"{name}:7070 does not resolve"):
        await resolve(f"{name}:7070")
