"""Whether a disk has room for what is about to be written."""

import shutil
from pathlib import Path

from paceline.errors import ResourceExhausted

_SPARE = 64 * 1024 * 1024
"""Bytes beyond what is known: configs, tokenizers, temporary files."""


def check_room(folder: Path, needed: int, what: str, setting: str) -> None:
    """Raise ResourceExhausted where the disk of `folder`, which may not be there yet, is too full.

    setting: the environment variable that puts it elsewhere.
    """
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    if needed and free < needed + _SPARE:
        raise ResourceExhausted(
            f"{what} needs {shown_bytes(needed + _SPARE)} at {folder}, which has "
            f"{shown_bytes(free)} free; make room, or name a folder on another disk with {setting}",
            retry_after=None,
        )


def shown_bytes(count: int) -> str:
    """So many bytes for people: 1.5 GB, 12 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if unit == "GB" else f"{count / size:.0f} {unit}"
    return f"{count} bytes"
