"""Which refusals are worth a line of the log, of callers who ask again until they are served."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

AGAIN_SECONDS = 60.0
"""A refusal like one that was logged is logged again after so long."""
_MOST = 100
_TRIED_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_NUMBER = re.compile(r"[\d.]+")


@dataclass(slots=True)
class _Said:
    """When a refusal was logged, and how many like it were not, since."""

    at: float
    unsaid: int = 0


class Repeats:
    """Refusals that only differ in numbers, as how far a model has loaded, are alike."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._clock = clock
        self._said: dict[tuple[str, grpc.StatusCode, str], _Said] = {}

    def note(self, method: str, code: grpc.StatusCode, reason: str) -> int | None:
        """How many like it were not logged, since the last that was; None: nor is this one."""
        if code not in _TRIED_AGAIN:
            return 0
        key = (method, code, _NUMBER.sub("", reason))
        now, said = self._clock(), self._said.get(key)
        if said is not None and now - said.at < AGAIN_SECONDS:
            said.unsaid += 1
            return None
        if len(self._said) >= _MOST:
            self._said.clear()
        self._said[key] = _Said(now)
        return said.unsaid if said is not None else 0
