"""Threads for what grows with a prompt: templates, tokenizing, the text of a resumed output."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from paceline.errors import DeadlineExceeded, ResourceExhausted

THREADS = 4
LONG_CHARACTERS = 256 * 1024
"""Longer texts are read one at a time: tokenizing takes up to 700 bytes for each character."""
WAITING = 1024
"""Requests that may wait for a thread; one more is refused."""

Result = TypeVar("Result")


class TextThreads:
    """Runs work beside the event loop, which streams go on with meanwhile."""

    def __init__(self) -> None:
        """Threads begin when there is work."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="text")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="long text")
        self._waiting = 0

    async def run(self, seconds: float, characters: int, work: Callable[[], Result]) -> Result:
        """What `work` returns; DeadlineExceeded when that is not there within `seconds`.

        characters: of the text that it reads.
        """
        if self._waiting >= WAITING:
            raise ResourceExhausted(f"{WAITING} prompts wait to be read, which is the limit")
        self._waiting += 1
        pool = self._pool if characters <= LONG_CHARACTERS else self._long
        future = asyncio.get_running_loop().run_in_executor(pool, work)
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"the prompt was not read within {seconds:.1f} s") from None

    def _done(self, future: asyncio.Future[Result]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # who asked may have gone
