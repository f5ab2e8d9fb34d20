"""An output that is lost, and waited for: said to people and to who reads standard error."""

import contextlib
from datetime import datetime, timedelta

from paceline.errors import PacelineError
from paceline_tools.terminal import console, plain


def tell_lost(error: PacelineError, seconds: float | None, what: str = "") -> None:
    """Say on standard error that it is tried again, and until when. what: whose output it is."""
    until = "" if seconds is None else f" until {_clock(seconds)} (--timeout)"
    errors = console(stderr=True)
    if errors.is_terminal and console().is_terminal:
        errors.print()  # the output may be in the middle of a line
    errors.print(plain(f"paceline: {what}{error}; trying again{until}", "yellow"), soft_wrap=True)


def _clock(seconds: float) -> str:
    """The time in so many seconds, by the clock on the wall; with the day, unless it is today."""
    now = datetime.now().astimezone()
    with contextlib.suppress(OverflowError):
        then = now + timedelta(seconds=seconds)
        return f"{then:%H:%M:%S}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M:%S}"
    return "it answers"
