"""Engines that are compared need their memory: without it a disk is measured."""

from paceline.errors import ResourceExhausted
from paceline.machine import memory_available

LEAST = 2 << 30
"""Bytes that are left while engines are measured, for what they take as they run."""
_GIB = 1 << 30


def check_memory_left(after: str) -> None:
    """Raise ResourceExhausted where less than LEAST is left, now that `after` has its models."""
    if (left := memory_available()) >= LEAST:
        return
    much = f"{left / _GIB:.1f} GiB of memory are left with {after}"
    limit = f"at least {LEAST / _GIB:g} GiB, or figures mean nothing"
    raise ResourceExhausted(f"{much}; it must be {limit}: name fewer --peers in one run", None)
