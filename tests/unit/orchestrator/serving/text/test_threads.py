"""Work on prompts beside the event loop: the loop goes on, and nobody waits past the deadline."""

import asyncio
import threading

import pytest

from orchestrator.serving.text.threads import TextThreads
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

    assert await threads.run(10.0, work) == "read"
    assert free.is_set()


async def test_a_prompt_is_waited_for_within_the_deadline() -> None:
    held = threading.Event()
    with pytest.raises(DeadlineExceeded, match="not read within"):
        await TextThreads().run(0.01, held.wait)
    held.set()
