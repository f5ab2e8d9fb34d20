"""A server of an evaluation: when it ends, that is what is said, and in one line."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from paceline.errors import DeadlineExceeded, PacelineError, Unavailable
from paceline_tools.local_servers import running

END_SECONDS = 2.0
"""Within this a server that breaks a call has ended, if that was why."""
_LOG = "; its last words:"


@contextlib.asynccontextmanager
async def started(
    name: str, command: list[str], ready: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """A server, ready. The context is left when it ends.

    Raises Unavailable, in one line, when it ends or does not answer.
    """
    try:
        async with (
            running({name: command}, ready) as servers,
            _left_when(servers.died()) as died,
        ):
            try:
                yield
            except (Unavailable, DeadlineExceeded) as error:
                await asyncio.wait({died}, timeout=END_SECONDS)
                raise _explained(name, error) from error
    except Unavailable as error:
        raise Unavailable(in_a_line(str(error))) from error


@contextlib.asynccontextmanager
async def _left_when(died: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """A context that is cancelled when `died` is over, and raises what that does."""
    task, watch = asyncio.current_task(), asyncio.create_task(died)
    inside = True

    def leave(_: object) -> None:
        if inside and task is not None:
            task.cancel()

    watch.add_done_callback(leave)
    try:
        yield watch
    except asyncio.CancelledError:
        if not watch.done() or task is None:
            raise
        task.uncancel()
    finally:
        inside = False
        if not watch.done():
            watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch


def _explained(name: str, error: PacelineError) -> PacelineError:
    """An error while a server runs, without what gRPC says of it."""
    if error.__cause__ is None or isinstance(error.__cause__, PacelineError):
        return error  # said here
    return Unavailable(f"the {name} runs, and did not answer")


def in_a_line(message: str) -> str:
    """How a server ended, and of its log the reason only."""
    how, _, log = message.partition(_LOG)
    for line in reversed(log.splitlines()):
        with contextlib.suppress(ValueError):
            if isinstance(found := json.loads(line), dict) and found.get("reason"):
                return f"{how}: {found['reason']}"
    return how
