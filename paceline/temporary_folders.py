"""Folders to work in that never stay: not even when a process ends that still works in them."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_in_use: set[Path] = set()


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A new folder on the disk of `beside`; what is to stay must be moved out of it, or as it."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f".{beside.name}-"))
    _in_use.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _in_use.discard(folder)


def clear() -> None:
    """Delete all that is in use: the process ends now, whatever its threads still do."""
    for folder in list(_in_use):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # what was written while it was cleared
