"""How far a model is loaded: lines of the log, `loading`, and words for who asks meanwhile."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
"""A step that is counted is told of so often, and when it is over."""


@dataclass(slots=True)
class _Step:
    """The step that a process is at; it loads one model. total: 0 where nobody knows it."""

    name: str = "starting"
    since: float = 0.0
    done: int = 0
    total: int = 0


_now = _Step()


def words() -> str:
    """The step, and how far it is: `reading weights, 43 %`, or for how long it goes on."""
    if _now.total:
        return f"{_now.name}, {_now.done / _now.total:.0%}".replace("%", " %")
    seconds = time.monotonic() - _now.since if _now.since else 0.0
    return f"{_now.name}, for {seconds:.0f} s" if seconds >= 1 else _now.name


def begin(step: str) -> None:
    """A step begins whose length nobody knows."""
    _enter(step, 0)
    _log.info("loading", step=step)


def counted(step: str, total: int, unit: str) -> Callable[[int], None]:
    """A step of so many units begins; what is returned is told of each that are done."""
    _enter(step, total)
    told = _now.since
    _log.info("loading", step=step, done=0, total=total, unit=unit)

    def advance(count: int) -> None:
        nonlocal told
        _now.done += count
        now = time.monotonic()
        if now - told >= EVERY_SECONDS or _now.done == total:
            told = now
            _log.info("loading", step=step, done=_now.done, total=total, unit=unit)

    return advance


def _enter(step: str, total: int) -> None:
    _now.name, _now.since, _now.done, _now.total = step, time.monotonic(), 0, total
