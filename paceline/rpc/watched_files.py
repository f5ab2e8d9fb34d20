"""Files that may change while they are in use, as a Secret that Kubernetes mounts."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from paceline.best_effort import best_effort
from paceline.errors import InvalidArgument

Read = TypeVar("Read")

LOOK_SECONDS = 1.0
"""Whether files have changed is looked at this often."""


class Reloaded(Generic[Read]):
    """What some files say: of new ones that cannot be used, what the ones before said.

    All who use the files share one of these, so that they have the same. Any thread may look.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        read: Callable[[], Read],
        *,
        taken: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        """Read them. name: what they are, for metrics. InvalidArgument: they cannot be used.

        taken, refused: told once of each change; why it is refused.
        """
        self.name = name
        self._paths, self._seen = paths, version(paths)
        self._read, self._say_taken, self._say_refused = read, taken, refused
        self._lock = threading.Lock()
        self.current = read()
        self.successful = True

    def look(self) -> Read:
        """What they say now, read anew where they have changed since the last look."""
        with self._lock:
            before, self._seen = self._seen, version(self._paths)
            if self._seen != before:  # half-written files change again when they are whole
                self._take()
            return self.current

    def _take(self) -> None:
        try:
            self.current = self._read()
        except InvalidArgument as error:
            self.successful = False
            self._say_refused(str(error))
        else:
            self.successful = True
            self._say_taken()


async def keep_looking(files: Sequence[Reloaded[Any]]) -> None:
    """Look at all every LOOK_SECONDS until cancelled: who uses them may not come for days."""
    while files:
        await asyncio.sleep(LOOK_SECONDS)
        for one in files:
            with best_effort("looking at files"):
                one.look()


def version(paths: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """When each file was written, and its size in bytes; of one that is not there (0, 0)."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()  # of what a link points to: Kubernetes exchanges links
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
