"""When a step begins: at once, or when those who are about to ask have asked. Pure.

Whoever just misses a step waits for the whole of it, and whoever waits for others loses that
time: the moment is chosen at which all together lose least.
"""

from collections import deque
from collections.abc import Collection, Hashable, Sequence

_MEMORY = 4
"""Thoughts that are remembered of each session."""
_LATE = 1.4
"""Who takes so many times as long as the longest of them is not waited for."""
_SOON = 0.1
"""Who is late is still expected within this share of it."""
_LEAST = 0.01
"""Nobody is expected sooner than within this share of it."""
LONGEST_GATHER = 1.0
"""Steps for which one waits at most for those whom the last one answered."""
DECODE_SHARE = 0.04
"""Share of a step for which those who decode on by themselves may be held up."""


class Gather:
    """How long each session takes from an answer to its next question, and who still thinks.

    Times are in seconds, on any one clock.
    """

    def __init__(self) -> None:
        """Know of nobody."""
        self._thoughts: dict[Hashable, deque[float]] = {}
        self._answered: dict[Hashable, float] = {}
        self.some_go_on = False
        """Whether some, of those whom the last step served, want more without having to ask."""

    def answered(self, key: Hashable, now: float) -> None:
        """A session was told what it asked for, and may ask again."""
        self._answered[key] = now

    def asked(self, key: Hashable, now: float) -> None:
        """It has asked."""
        answered = self._answered.pop(key, None)
        if answered is not None:
            self._thoughts.setdefault(key, deque(maxlen=_MEMORY)).append(now - answered)

    def goes_on(self, key: Hashable) -> bool:
        """It wants more without having to ask; returns whether it had not asked already."""
        goes_on = self._answered.pop(key, None) is not None
        self.some_go_on |= goes_on
        return goes_on

    @property
    def thinking(self) -> bool:
        """Whether some who were answered have not asked again."""
        return bool(self._answered)

    def forget(self, key: Hashable) -> None:
        """It is closed."""
        self._thoughts.pop(key, None)
        self._answered.pop(key, None)

    def max_wait(self, ready: int, step_seconds: float, now: float) -> float:
        """Seconds for which a step of `ready` sessions should wait for others; 0: begin."""
        return best_wait(ready, self._expected(now), step_seconds) if self._answered else 0.0

    def _expected(self, now: float) -> list[float]:
        """In how many seconds those who think will ask, who are late left out; ascending."""
        expected = []
        for key, answered in self._answered.items():
            left = _left(self._thoughts.get(key, ()), now - answered)
            if left is not None:
                expected.append(left)
        return sorted(expected)


def _left(thoughts: Collection[float], thought: float) -> float | None:
    """How much longer a session thinks that has thought so long; None when nobody can tell.

    As long as the shortest of its last thoughts that is longer: some take no time, as draft tokens
    are there, and others a whole wait for the draft. Between them is nothing to wait for.
    """
    longest = max(thoughts, default=0.0)
    if thought >= longest:
        return _SOON * longest if thought < _LATE * longest else None
    return max(min(one for one in thoughts if one > thought) - thought, _LEAST * longest)


def best_wait(ready: int, expected: Sequence[float], step_seconds: float) -> float:
    """The wait, in seconds, at which all together lose least time.

    ready: who wait already. expected: in how many seconds others will ask, ascending. Who asks
    after the step has begun waits for its end. Waiting for one more delays all who are there by
    as much, and saves that one the rest of the step.
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
