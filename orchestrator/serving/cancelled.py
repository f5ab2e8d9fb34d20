"""Tasks that must have ended before what they use is let go of."""

import asyncio
from typing import Any

AGAIN_SECONDS = 0.2


async def cancelled(task: "asyncio.Task[Any]") -> BaseException | None:
    """Cancel a task until it ends; returns the error it ended with, its cancellation left out.

    Once is not enough: a task group of Python 3.11 that is about to fail swallows a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_SECONDS)
    return None if task.cancelled() else task.exception()
