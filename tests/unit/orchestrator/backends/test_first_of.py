"""Servers asked for the same thing, some of them silent."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from orchestrator.backends.first_of import first_of
from paceline.errors import NotFound, Unavailable

NOBODY = Unavailable("nobody")


class Asked:
    """Calls by what they do; which were begun, and which were cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    def of(self, *names: str) -> list[Callable[[], Coroutine[Any, Any, str]]]:
        return [partial(self._call, name) for name in names]

    async def _call(self, name: str) -> str:
        self.begun.append(name)
        if name == "fails":
            raise NotFound(name)
        if name == "breaks":
            raise ZeroDivisionError
        if name == "silent":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
        return name


async def test_one_that_answers_is_the_only_one_asked() -> None:
    asked = Asked()
    assert await first_of(asked.of("a", "b"), 60.0, NOBODY) == "a"
    assert asked.begun == ["a"]


async def test_one_that_fails_is_followed_by_the_next_at_once() -> None:
    asked = Asked()
    assert await first_of(asked.of("fails", "b", "c"), 60.0, NOBODY) == "b"
    assert asked.begun == ["fails", "b"]


async def test_a_silent_one_holds_up_none_and_is_cancelled() -> None:
    asked = Asked()
    assert await first_of(asked.of("silent", "silent", "c"), 0.01, NOBODY) == "c"
    await asyncio.sleep(0)
    assert asked.cancelled == ["silent", "silent"]


async def test_a_silent_one_beside_one_that_fails_is_still_waited_for() -> None:
    asked = Asked()
    waiting = asyncio.create_task(first_of(asked.of("silent", "fails"), 0.01, NOBODY))
    while len(asked.begun) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert asked.cancelled == ["silent"]


async def test_the_last_error_is_raised_or_the_one_for_nobody() -> None:
    with pytest.raises(NotFound, match="fails"):
        await first_of(Asked().of("fails", "fails"), 60.0, NOBODY)
    with pytest.raises(Unavailable, match="nobody"):
        await first_of(Asked().of(), 60.0, NOBODY)
    with pytest.raises(ZeroDivisionError):
        await first_of(Asked().of("breaks", "b"), 60.0, NOBODY)
