"""Pools: one server's nonsense is that server's alone."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.backends import pool as module
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import Replica
from paceline.errors import Unavailable


async def test_a_server_that_answers_nonsense_ends_no_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    twice = asyncio.Event()

    async def poll(replica: Replica) -> None:
        asked.append(replica.address)
        if asked.count("unix:/good") == 2:
            twice.set()
        if replica.address == "unix:/bad":
            raise ZeroDivisionError

    async def resolve(name: str) -> list[str]:
        if asked:
            raise ZeroDivisionError
        return [name]

    monkeypatch.setattr(Replica, "poll", poll)
    monkeypatch.setattr(module, "resolve", resolve)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "RESOLVE_SECONDS", 0.001)
    watching: asyncio.Task[Any] = asyncio.create_task(Pool(("unix:/bad", "unix:/good")).watch())
    async with asyncio.timeout(20):
        await twice.wait()
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_who_is_silent_holds_up_none_and_who_is_lost_is_asked_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    often = asyncio.Event()

    async def poll(replica: Replica) -> None:
        asked.append(replica.address)
        if replica.address == "unix:/silent":
            await asyncio.Event().wait()
        if replica.address == "unix:/alive":
            replica.health.answer(0.001, draining=False)
        if asked.count("unix:/lost") == 5:
            often.set()

    monkeypatch.setattr(Replica, "poll", poll)
    monkeypatch.setattr(module, "POLL_SECONDS", 600.0)
    monkeypatch.setattr(module, "LOST_SECONDS", 0.001)
    names = "unix:/silent", "unix:/alive", "unix:/lost"
    watching: asyncio.Task[Any] = asyncio.create_task(Pool(names).watch())
    async with asyncio.timeout(20):
        await often.wait()
    assert asked.count("unix:/silent") == asked.count("unix:/alive") == 1
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_name_that_does_not_resolve_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    thrice = asyncio.Event()

    async def resolve(name: str) -> list[str]:
        asked.append(name)
        if len(asked) == 3:
            thrice.set()
        raise Unavailable(f"{name} does not resolve: it is not known")

    monkeypatch.setattr(module, "resolve", resolve)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "RESOLVE_SECONDS", 0.001)
    with capture_logs() as logs:
        watching: asyncio.Task[Any] = asyncio.create_task(Pool(("nowhere:7071",)).watch())
        async with asyncio.timeout(20):
            await thrice.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    [line] = [line for line in logs if line["event"] == "name not resolved"]
    assert line["reason"] == "nowhere:7071 does not resolve: it is not known"
