"""When a step begins: at once, or when those who are about to ask have asked. Pure.

A session that just misses a step waits for the whole of it. A session that waits for others loses
that time. The step begins at the moment at which all together lose least.
"""

from collections import deque
from collections.abc import Collection, Hashable, Sequence

_MEMORY = 4
"""Think times that are kept of each session."""
_LATE = 1.4
"""A session that takes so many times as long as its longest think time is not waited for."""
_SOON = 0.1
"""A late session is still expected within this share of its longest think time."""
_LEAST = 0.01
"""No session is expected sooner than this share of its longest think time."""
LONGEST_GATHER = 1.0
"""Longest wait for those whom the last step answered, in durations of a step."""
DECODE_SHARE = 0.04
"""The same where others go on by themselves and are held up, as a share of a step."""


class StepStart:
    """Think times: how long each session takes from an answer to its next request.

    Times are in seconds, on any one clock. Keys are the sessions', of any kind.
    """

    def __init__(self) -> None:
        """Begin without sessions."""
        self._think_times: dict[Hashable, deque[float]] = {}
        self._answered: dict[Hashable, float] = {}
        self.some_go_on = False
        """Whether sessions that the last step served want more without asking."""

    def answered(self, key: Hashable, now: float) -> None:
        """The session was told what it asked for, and is expected to ask again."""
        self._answered[key] = now

    def asked(self, key: Hashable, now: float) -> None:
        """The session has asked."""
        answered = self._answered.pop(key, None)
        if answered is not None:
            self._think_times.setdefault(key, deque(maxlen=_MEMORY)).append(now - answered)

    def goes_on(self, key: Hashable) -> bool:
        """The session wants more without asking; returns whether it had not asked already."""
        goes_on = self._answered.pop(key, None) is not None
        self.some_go_on |= goes_on
        return goes_on

    @property
    def thinking(self) -> bool:
        """Whether sessions that were answered have not asked again."""
        return bool(self._answered)

    def forget(self, key: Hashable) -> None:
        """The session is closed."""
        self._think_times.pop(key, None)
        self._answered.pop(key, None)

    def max_wait(self, ready: int, step_seconds: float, now: float) -> float:
        """Seconds for which a step of `ready` sessions should wait for others; 0: begin."""
        return best_wait(ready, self._expected(now), step_seconds) if self._answered else 0.0

    def _expected(self, now: float) -> list[float]:
        """In how many seconds sessions will ask, without those that are too late; ascending."""
        expected = []
        for key, answered in self._answered.items():
            left = _left(self._think_times.get(key, ()), now - answered)
            if left is not None:
                expected.append(left)
        return sorted(expected)


def _left(think_times: Collection[float], elapsed: float) -> float | None:
    """How much longer a session takes that has taken `elapsed`; None when it is too late to tell.

    Until the shortest of its last think times that is longer than that. Think times are bimodal:
    none where draft tokens are at hand, or a whole wait for the draft. No mean lies near either.
    """
    longest = max(think_times, default=0.0)
    if elapsed >= longest:
        return _SOON * longest if elapsed < _LATE * longest else None
    return max(min(one for one in think_times if one > elapsed) - elapsed, _LEAST * longest)


def best_wait(ready: int, expected: Sequence[float], step_seconds: float) -> float:
    """The wait, in seconds, at which all together lose least time.

    ready: sessions that wait already. expected: in how many seconds others will ask, ascending. A
    session that asks after the step has begun waits for its end. Waiting for one more delays all
    that are ready by as much, and saves that one the rest of the step.
    """
    best = lost = least = last = 0.0
    soon = [wait for wait in expected if wait < step_seconds]
    for early, wait in enumerate(soon):
        late = len(soon) - early
        lost += (ready + early) * (wait - last) + late * (wait - last) - step_seconds
        last = wait
        if lost < least:
            best, least = wait, lost
    return best
