"""Work on prompts beside the event loop: the loop goes on, and nobody waits past the deadline."""

import asyncio
import threading

import pytest

from orchestrator.serving.text.threads import LONG_CHARACTERS, TextThreads
from paceline.errors import DeadlineExceeded


async def test_the_event_loop_goes_on_while_a_prompt_is_read() -> None:
    threads, loop = TextThreads(), asyncio.get_running_loop()
    free = asyncio.Event()

    def work() -> str:
        # Waits for the loop: were it run there, it would wait for ever.
        asyncio.run_coroutine_threadsafe(set_free(), loop).result()
        return "read"

    async def set_free() -> None:
        free.set()

    assert await threads.run(10.0, 1, work) == "read"
    assert free.is_set()


async def test_a_prompt_is_waited_for_within_the_deadline() -> None:
    held = threading.Event()
    with pytest.raises(DeadlineExceeded, match="not read within"):
        await TextThreads().run(0.01, 1, held.wait)
    held.set()


async def test_long_texts_are_read_one_at_a_time_and_hold_up_no_short_one() -> None:
    threads, held = TextThreads(), threading.Event()
    running: list[int] = []
    most: list[int] = []

    def work() -> None:
        running.append(1)
        most.append(len(running))
        held.wait()
        running.pop()

    long = [asyncio.create_task(threads.run(60.0, LONG_CHARACTERS + 1, work)) for _ in range(3)]
    assert await threads.run(60.0, LONG_CHARACTERS, lambda: "read") == "read"
    held.set()
    await asyncio.gather(*long)
    assert max(most) == 1
