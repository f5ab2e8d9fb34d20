"""Steps of a stream that rests, of which nothing is learned but what they brought. Pure.

Among many streams whose draft does not pay, what is learned of each step is most of what such a
stream costs the orchestrator beyond one that was told never to speculate.
"""

from dataclasses import dataclass

from paceline.protocol.verdict import TimedVerdict

MOST_PASSED = 7
"""Behind so many steps one is learned of."""


@dataclass(frozen=True, slots=True)
class Passed:
    """So many steps, one behind the other. arrived_seconds: when the latest verdict came."""

    steps: int
    tokens: int
    arrived_seconds: float


class PassedSteps:
    """Those of one stream that were not counted yet."""

    def __init__(self) -> None:
        """None."""
        self._steps = self._tokens = 0
        self._arrived_seconds = 0.0

    def passes(self, timed: TimedVerdict) -> bool:
        """Whether the step is only counted; one that verified draft tokens never is."""
        if self._steps >= MOST_PASSED or timed.verdict.verified:
            return False
        self._steps += 1
        self._tokens += len(timed.verdict.token_ids)
        self._arrived_seconds = timed.arrived_seconds
        return True

    def take(self) -> Passed | None:
        """What has to be counted."""
        if not self._steps:
            return None
        passed = Passed(self._steps, self._tokens, self._arrived_seconds)
        self._steps = self._tokens = 0
        return passed
