"""When to try again: what may pass, after growing pauses, within the caller's time."""

import asyncio
import math
import random
import time
from collections.abc import Callable

from paceline.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.rpc.deadline import LONGEST_SECONDS

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
OnLost = Callable[[PacelineError, float | None], object]
"""Told the error, and within how many seconds it is tried again; None: without a deadline."""


class Backoff:
    """Pauses between attempts: twice as long each time, full jitter (Brooker 2015, AWS)."""

    def __init__(self, retries: int, seconds: float | None, on_lost: OnLost | None = None) -> None:
        """Allow `retries` attempts in a row beyond the first, all within `seconds`.

        What has begun, and what is only full and says for how long, is tried again as long as there
        is time, but never where `retries` is 0. More than LONGEST_SECONDS, which gRPC could not
        count, are so many. on_lost: told before the first of each row of such attempts: they may
        go on as long as there is time.
        """
        if seconds is not None and math.isnan(seconds):
            raise InvalidArgument.of("timeout", seconds, "a number of seconds")
        if seconds is not None:
            seconds = min(seconds, LONGEST_SECONDS)
        self._retries = retries
        self._on_lost = on_lost
        self._failed = 0
        self._begun = False
        self._deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float | None:
        """Seconds that are left; None without a deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def failed(self) -> int:
        """Attempts in a row that a pause has followed."""
        return self._failed

    def reset(self) -> None:
        """There was progress: count from 0 again."""
        self._failed, self._begun = 0, True

    async def pause(self, error: PacelineError) -> None:
        """Wait before the next attempt; raises `error` when it would not help or time is short."""
        least = _least_pause(error)
        most = math.inf if self._begun or isinstance(error, ResourceExhausted) else self._retries
        if least is None or not self._retries or self._failed >= most:
            raise error
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self._failed)
        seconds = least + random.uniform(0.0, longest)  # noqa: S311  spreads clients, no secret
        if self.remaining is not None and seconds >= self.remaining:
            raise DeadlineExceeded(f"no time is left to try again after: {error}") from error
        if self._on_lost is not None and not self._failed and most == math.inf:
            self._on_lost(error, self.remaining)
        self._failed += 1
        await asyncio.sleep(seconds)


def _least_pause(error: PacelineError) -> float | None:
    """Seconds to wait at least before trying again; None when that would not help."""
    if isinstance(error, Unavailable):
        return 0.0
    return error.retry_after if isinstance(error, ResourceExhausted) else None
