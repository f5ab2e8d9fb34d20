"""An event loop on a thread of its own: begun when first needed, in each process anew."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from paceline.client import forks
from paceline.errors import Cancelled

Value = TypeVar("Value")
_CLOSED = "the client was closed meanwhile"
CLOSE_SECONDS = 5.0
"""What is left undone is given up after this."""


class LoopThread:
    """Runs coroutines for callers that have none, or cannot wait in theirs."""

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`close` runs last on each loop."""
        self._close = close
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._held = 0
        forks.watch(self)

    def run(
        self, work: Coroutine[Any, Any, Value], begun: asyncio.AbstractEventLoop | None = None
    ) -> Value:
        """What `work` gives; whatever ends the waiting for it, as Ctrl-C does, cancels it.

        begun: the loop it belongs to; Cancelled where that one has been closed.
        """
        future: concurrent.futures.Future[Value] | None = None
        try:
            with self.held() as loop:
                if begun not in (None, loop):
                    raise Cancelled(_CLOSED)
                future = asyncio.run_coroutine_threadsafe(work, loop)
                return future.result()
        except concurrent.futures.CancelledError:
            raise Cancelled(_CLOSED) from None
        except BaseException:
            if future is None:
                work.close()
            else:
                future.cancel()
            raise

    @contextlib.contextmanager
    def held(self) -> Iterator[asyncio.AbstractEventLoop]:
        """The loop, which no fork stops meanwhile."""
        with self._lock:
            loop = self._loop or self._start()
            self._held += 1
        try:
            yield loop
        finally:
            with self._lock:
                self._held -= 1

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have `call` run on the loop, if there is one."""
        with contextlib.suppress(RuntimeError):  # it has just been closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def finish(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
        """Run what ends something on `loop`, where that still runs, and wait a little for it.

        The collector may call it anywhere, on the loop's own thread too, which cannot wait.
        """
        if loop is not self._loop or loop.is_closed():
            work.close()
            return
        future = asyncio.run_coroutine_threadsafe(work, loop)
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(concurrent.futures.TimeoutError):
                future.result(CLOSE_SECONDS)

    def rest(self) -> None:
        """End the thread; the next call begins another. Resting twice does nothing."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        closing = asyncio.run_coroutine_threadsafe(self._end(), loop)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            closing.result(CLOSE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_SECONDS)
        if not thread.is_alive():
            loop.close()

    def before_fork(self) -> None:
        """Rest, unless something is under way."""
        if not self._held:
            self.rest()

    def after_fork(self) -> list[object]:
        """In the child: there is no thread. Returns what must never be touched again."""
        left: list[object] = [self._loop, self._thread]
        self._lock, self._loop, self._thread, self._held = threading.RLock(), None, None, 0
        return left

    async def _end(self) -> None:
        """Close, and let all that runs here hear of it: somebody waits for each."""
        await self._close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=CLOSE_SECONDS / 5)
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=CLOSE_SECONDS / 5)

    def _start(self) -> asyncio.AbstractEventLoop:
        forks.check()
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=loop.run_forever, name="paceline-client", daemon=True
        )
        self._thread.start()
        self._loop = loop
        return loop
