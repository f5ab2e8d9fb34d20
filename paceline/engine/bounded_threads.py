"""Threads for calls of a library that nothing can interrupt; who waits has a deadline."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class BoundedThreads:
    """Threads that are left behind, and replaced, when a call on them takes too long."""

    def __init__(self, name: str, count: int) -> None:
        """count: calls at a time."""
        self._name, self._count = name, count
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(count, name)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Run it when a thread is free."""
        with self._lock:
            return self._pool.submit(call)

    def result(self, future: Future[Result], call: Callable[[], Result], seconds: float) -> Result:
        """What `call`, submitted as `future`, returns; TimeoutError where it runs too long.

        Where it has not begun by then, since another call keeps the threads, it runs on new ones.
        """
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():  # the call raised it, or it is just ready
                return future.result()
            self._replace()
            if not future.cancel():
                raise
        return self.submit(call).result(seconds)

    def _replace(self) -> None:
        with self._lock:
            old, self._pool = self._pool, ThreadPoolExecutor(self._count, self._name)
        old.shutdown(wait=False)
