"""Virtual time: an event loop whose clock jumps to the next timer, and whose turns cost little.

It has timers, futures and tasks, which is all that rounds, sessions and simulated servers use;
there are no sockets, threads or processes. It is the same every time: timers of one moment fire in
the order in which they were set. asyncio's own loop keeps no order among them: two Advances sent in
one moment would arrive the wrong way round.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
ONE_MOMENT = 1e-9
"""Timers that are so many seconds apart fire together: sums of floats differ by less."""


class _Call(asyncio.TimerHandle):
    """A callback that is to be called."""

    __slots__ = ("called", "inside", "using")

    def __init__(  # the base class copies a context for each
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.called: Callable[..., object] | None = callback
        self.using = args
        self.inside = context

    def cancel(self) -> None:
        self.called = None

    def cancelled(self) -> bool:
        return self.called is None

    def run(self) -> None:
        """Call it, unless it was cancelled."""
        if self.called is None:
            return
        if self.inside is None:
            self.called(*self.using)
        else:
            self.inside.run(self.called, *self.using)


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module. What a callback raises ends the run."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._now = 0.0
        self._ready: deque[_Call] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._set = 0
        self._failure: BaseException | None = None

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run `main` to its end, and cancel what it leaves behind."""
        asyncio._set_running_loop(self)
        try:
            task: asyncio.Task[Result] = self.create_task(main)
            self._run_until(task)
            return task.result()
        finally:
            left = asyncio.all_tasks(self)
            for one in left:
                one.cancel()
            self._run_until(asyncio.gather(*left, return_exceptions=True))
            asyncio._set_running_loop(None)

    def _run_until(self, future: asyncio.Future[Any]) -> None:
        ready = self._ready
        while not future.done():
            if not ready:
                self._jump()
            for _ in range(len(ready)):
                ready.popleft().run()
            if self._failure is not None:
                raise self._failure

    def _jump(self) -> None:
        """To the next timer."""
        timers = self._timers
        if not timers:
            raise RuntimeError("all wait, and nothing will happen")
        self._now = timers[0][0]
        while timers and timers[0][0] <= self._now + ONE_MOMENT:
            self._ready.append(heapq.heappop(timers)[2])

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """See asyncio."""
        call = _Call(callback, args, context)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        call = _Call(callback, args, context)
        self._set += 1
        heapq.heappush(self._timers, (when, self._set, call))
        return call

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        """See asyncio."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody took care of ends the run."""
        self._failure = context.get("exception") or RuntimeError(context["message"])

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return True


def in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end, on a clock that runs as fast as it can."""
    return VirtualLoop().run(main)  # type: ignore[abstract]  # no sockets
