"""Files that may change while they are in use, as a Secret that Kubernetes mounts."""

import threading
from collections.abc import Sequence
from pathlib import Path


class WatchedFiles:
    """Some files, and whether they have changed. Any thread may ask."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """As they are now."""
        self._paths = paths
        self._seen = version(paths)
        self._lock = threading.Lock()

    def changed(self) -> bool:
        """Whether they have since this was last asked: once for each change.

        Files that turn out half-written change again when they are whole.
        """
        with self._lock:
            before, self._seen = self._seen, version(self._paths)
            return self._seen != before


def version(paths: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """When each file was written, and its size in bytes; of one that is not there (0, 0)."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()  # of what a link points to: Kubernetes exchanges links
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
