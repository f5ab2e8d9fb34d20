"""A task that swallows a cancellation ends all the same."""

import asyncio

from orchestrator.serving.cancelled import cancelled


async def test_a_task_is_cancelled_until_it_ends() -> None:
    swallowed: list[bool] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(True)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    assert await cancelled(task) is None
    assert task.cancelled()
    assert swallowed


async def test_the_error_that_a_task_ended_with_is_returned() -> None:
    async def fails() -> None:
        raise ValueError("why")

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    assert repr(await cancelled(task)) == "ValueError('why')"
