"""How far a model is loaded, as lines of the log: `loading`, with its step and how much is done."""

import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
"""A step that is counted is told of so often, and when it is over."""


def begin(step: str) -> None:
    """A step begins whose length nobody knows."""
    _log.info("loading", step=step)


def counted(step: str, total: int, unit: str) -> Callable[[int], None]:
    """A step of so many units begins; what is returned is told of each that are done."""
    done, told = 0, time.monotonic()
    _log.info("loading", step=step, done=0, total=total, unit=unit)

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        now = time.monotonic()
        if now - told >= EVERY_SECONDS or done == total:
            told = now
            _log.info("loading", step=step, done=done, total=total, unit=unit)

    return advance
