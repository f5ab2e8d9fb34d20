"""A stream under way, in the hands of who reads it: what it is not for is said in words.

Python's own iterators would end in silence where the event loop they began in has ended, or where a
wait for them was cancelled: half an output would look like a whole one.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from types import AsyncGeneratorType
from typing import Self, cast

from paceline.errors import Cancelled, FailedPrecondition
from paceline.protocol.generation import Delta

OTHER_LOOP = (
    "a stream is read in the event loop that it was begun in, and this is another one: "
    "read all of it within one asyncio.run, or use SyncClient"
)
TWO_READERS = "a stream is read in one place at a time, and another task or thread waits for it"
NOT_WHOLE = (
    "the stream has ended before its output was whole: it failed, was closed, or a wait for it was "
    "cancelled, as by a timeout; ask generate again"
)


class Deltas(AsyncIterator[Delta]):
    """Those of a Generation, in the event loop that first asked for one."""

    def __init__(self, deltas: AsyncGenerator[Delta, None], whole: Callable[[], bool]) -> None:
        """whole: whether all has come."""
        self._deltas = cast("AsyncGeneratorType[Delta, None]", deltas)
        self._whole = whole
        self._loop: asyncio.AbstractEventLoop | None = None

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> Delta:
        """The next; FailedPrecondition elsewhere, Cancelled behind the end of half an output."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        if self._deltas.ag_running:
            raise FailedPrecondition(TWO_READERS)
        try:
            return await self._deltas.__anext__()
        except StopAsyncIteration:
            if self._whole():
                raise
        raise Cancelled(NOT_WHOLE)

    async def aclose(self) -> None:
        """Cancel what has not come yet."""
        await self._deltas.aclose()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            raise FailedPrecondition(OTHER_LOOP)
        self._loop = loop


class SyncDeltas(Iterator[Delta]):
    """Those of a SyncGeneration, for any thread, one at a time."""

    def __init__(self, deltas: Generator[Delta, None, None], whole: Callable[[], bool]) -> None:
        """whole: whether all has come."""
        self._deltas = deltas
        self._whole = whole

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> Delta:
        """The next; Cancelled behind the end of half an output."""
        try:
            return next(self._deltas)
        except StopIteration:
            if self._whole():
                raise
        except ValueError:  # so Python says it; an error of ours is none
            raise FailedPrecondition(TWO_READERS) from None
        raise Cancelled(NOT_WHOLE)

    def close(self) -> None:
        """Cancel what has not come yet."""
        self._deltas.close()
