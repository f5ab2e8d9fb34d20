"""The door: nobody overtakes by asking more, whoever cannot end in time is told so at once."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from orchestrator.serving.door import Door
from paceline.errors import ResourceExhausted


class Visitors:
    """Requests at a door; who was let in, in order."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.inside: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, caller: str, name: str, *, priority: int = 0, seconds: float = 60) -> None:
        self.ends[name] = asyncio.Event()

        async def visit() -> None:
            async with self.door.passing(caller, 1, priority, seconds):
                self.inside.append(name)
                await self.ends[name].wait()

        self.tasks[name] = asyncio.create_task(visit())
        await asyncio.sleep(0)

    async def go(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def visitors(streams: int = 1, waiting: int = 100) -> AsyncIterator[Visitors]:
    found = Visitors(Door(streams, waiting, lambda _: False))
    yield found
    for task in found.tasks.values():
        task.cancel()
    await asyncio.gather(*found.tasks.values(), return_exceptions=True)
    assert not found.door.waiting
    assert not found.door._running


async def test_callers_take_turns_however_many_requests_one_has() -> None:
    async with visitors(streams=2) as some:
        for number in range(6):
            await some.come("greedy", f"g{number}")
        for number in range(2):
            await some.come("polite", f"p{number}")
        assert some.inside == ["g0", "g1"]
        await some.go("g0")
        await some.go("g1")
        assert some.inside == ["g0", "g1", "p0", "g2"]
        await some.go("p0")
        assert some.inside[-1] == "p1"


async def test_priority_goes_first_and_age_counts_as_priority() -> None:
    async with visitors() as some:
        await some.come("one", "first")
        await some.come("one", "plain")
        await some.come("one", "urgent", priority=1)
        old = some.door._queues["one"][0]
        await some.go("first")
        assert some.inside[-1] == "urgent"
        await some.come("one", "urgent too", priority=1)
        old.since -= 2.0
        await some.go("urgent")
        assert some.inside[-1] == "plain"


async def test_whoever_has_most_gives_way_where_too_many_wait() -> None:
    async with visitors(waiting=3) as some:
        await some.come("greedy", "inside")
        for number in range(3):
            await some.come("greedy", f"g{number}")
        await some.come("greedy", "one too many")
        await some.come("polite", "p")
        await asyncio.sleep(0)
        for refused in ("one too many", "g2"):
            with pytest.raises(ResourceExhausted, match=r"^the orchestrator is full: 3 requests"):
                await some.tasks[refused]
        await some.go("inside")
        assert some.inside == ["inside", "p"]
        await some.go("p")
        assert some.inside[-1] == "g0"


async def test_what_cannot_end_in_time_is_refused_at_once_and_told_when_to_come() -> None:
    async with visitors() as some:
        await some.come("one", "first")
        some.door._pause.observe(2.0)
        some.door._lasts.observe(3.0)
        await some.come("one", "late", seconds=4.9)
        with pytest.raises(
            ResourceExhausted, match=r"about 5.0 s are needed, .* is in 4.9 s"
        ) as no:
            await some.tasks["late"]
        assert no.value.retry_after == 2.0
        await some.come("one", "in time", seconds=5.1)
        await some.go("first")
        assert some.inside[-1] == "in time"


async def test_whoever_goes_while_it_waits_or_as_it_is_let_in_takes_no_place() -> None:
    async with visitors() as some:
        await some.come("one", "first")
        for name in ("goes", "let in", "stays"):
            await some.come("one", name)
        some.tasks["goes"].cancel()
        await asyncio.sleep(0)
        some.ends["first"].set()
        while some.door.waiting > 1:
            await asyncio.sleep(0)
        some.tasks["let in"].cancel()
        for _ in range(4):
            await asyncio.sleep(0)
        assert some.inside == ["first", "stays"]


async def test_where_none_may_wait_one_more_is_refused() -> None:
    async with visitors(waiting=0) as some:
        await some.come("alice", "first")
        await some.come("bob", "second")
        assert some.inside == ["first"]
        with pytest.raises(ResourceExhausted, match=r"0 requests wait, the most that may"):
            await some.tasks["second"]
        await some.go("first")
        await some.come("bob", "third")
        assert some.inside == ["first", "third"]


async def test_what_would_be_refused_at_once_is_told_so_before_and_nobody_else_gives_way() -> None:
    async with visitors(waiting=3) as some:
        some.door.check("greedy", 1, 60)
        for number in range(4):
            await some.come("greedy", f"g{number}")
        with pytest.raises(ResourceExhausted, match=r"3 requests wait, the most .*--max-queued"):
            some.door.check("greedy", 1, 60)
        some.door.check("polite", 1, 60)
        assert some.door.waiting == 3
        await some.go("g0")
        with pytest.raises(ResourceExhausted, match="s are needed, and the deadline is in -1"):
            some.door.check("polite", 1, -1)


async def test_those_who_are_refused_together_are_told_to_come_back_at_different_times() -> None:
    async with visitors(waiting=0) as some:
        await some.come("one", "first")
        some.door._pause.observe(2.0)
        told = []
        for _ in range(100):
            with pytest.raises(ResourceExhausted) as no:
                some.door.check("one", 1, 60.0)
            told.append(no.value.retry_after or 0.0)
        told.sort()
        assert told[0] == 2.0
        assert told[-1] < 3.0
        assert max(after - before for before, after in itertools.pairwise(told)) < 0.02
