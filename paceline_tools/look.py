"""Looks at something that goes on: in place on a terminal, elsewhere one below the other."""

import asyncio
import contextlib
import os
import stat
import sys
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live


class Look(contextlib.ExitStack):
    """Where looks are shown. On a pipe it ends, with BrokenPipeError, as soon as nobody reads."""

    def __init__(self, console: Console) -> None:
        """Nothing is shown yet."""
        super().__init__()
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._unread = asyncio.Event()
        self.explains = True

    def __enter__(self) -> Self:
        """Begin."""
        if self._live is not None:
            self.enter_context(self._live)
        elif (pipe := _pipe()) is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(pipe, self._unread.set)  # ready to be read: closed at the other end
            self.callback(loop.remove_reader, pipe)
        return self

    async def wait(self, seconds: float) -> None:
        """Until the next look."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._unread.wait(), seconds)
            raise BrokenPipeError

    def show(self, what: RenderableType) -> None:
        """One look. Below one another, columns are explained in the first."""
        if self._live is not None:
            self._live.update(what, refresh=True)
            return
        self._console.print(what)
        self._console.file.flush()
        self.explains = False


def _pipe() -> int | None:
    """Standard output, where it is a pipe."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            return number
    return None
