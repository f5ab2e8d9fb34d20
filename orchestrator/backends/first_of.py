"""The same asked of several servers, of which some may be silent."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from paceline.errors import PacelineError

T = TypeVar("T")


async def first_of(
    calls: Sequence[Callable[[], Coroutine[Any, Any, T]]], seconds: float, error: PacelineError
) -> T:
    """What the first call gives that succeeds; the others are cancelled then.

    The next one begins once one has failed, or after so many seconds beside those before it.
    Raises what the last one did where all fail, and `error` where there is none.
    """
    waiting, running = [*calls], set[asyncio.Task[T]]()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(waiting.pop(0)()))
            done, running = await asyncio.wait(
                running,
                timeout=seconds if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                raised = task.exception()
                if raised is None:
                    return task.result()
                if not isinstance(raised, PacelineError):
                    raise raised
                error = raised
        raise error
    finally:
        for task in running:
            task.cancel()
