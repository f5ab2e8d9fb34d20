"""Virtual time: timers fire in order, in no time; what a callback raises is raised."""

import asyncio

import pytest

from paceline_tools.simulation.clock import in_virtual_time


def test_hours_pass_in_no_time_and_timers_of_one_moment_keep_their_order() -> None:
    fired: list[tuple[float, str]] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()

        def fire(name: str) -> None:
            fired.append((loop.time(), name))

        for seconds, name in ((7200.0, "b"), (3600.0, "a"), (7200.0, "c"), (7200.0 + 1e-12, "d")):
            loop.call_later(seconds, fire, name)
        cancelled = loop.call_later(1.0, fire, "never")
        cancelled.cancel()
        await asyncio.sleep(10_000.0)
        return loop.time()

    assert in_virtual_time(main()) == 10_000.0
    assert fired == [(3600.0, "a"), (7200.0, "b"), (7200.0, "c"), (7200.0, "d")]


def test_a_timeout_and_a_queue_work_as_ever() -> None:
    async def main() -> tuple[int, bool]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        asyncio.get_running_loop().call_later(1.0, queue.put_nowait, 5)
        first = await queue.get()
        try:
            async with asyncio.timeout(2.0):
                await queue.get()
        except TimeoutError:
            return first, asyncio.get_running_loop().time() == 3.0
        return first, False

    assert in_virtual_time(main()) == (5, True)


def test_what_a_callback_raises_ends_the_run() -> None:
    def fail() -> None:
        raise ValueError("a bug")

    async def main() -> None:
        asyncio.get_running_loop().call_later(1.0, fail)
        await asyncio.sleep(2.0)

    with pytest.raises(ValueError, match="a bug"):
        in_virtual_time(main())


def test_tasks_that_are_left_behind_are_cancelled() -> None:
    ended: list[str] = []

    async def left() -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            ended.append("cancelled")

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(left())
        await asyncio.sleep(1.0)
        return task

    assert in_virtual_time(main()).cancelled()
    assert ended == ["cancelled"]


def test_where_all_wait_for_nothing_that_is_said() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="all wait"):
        in_virtual_time(main())
