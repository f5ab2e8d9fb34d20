"""Advances on their way to the draft: checked as they come, taken by the next step. Pure."""

from collections import deque
from collections.abc import Iterator

from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.advance import Advance

MOST_WAITING = 1024
"""Advances that may wait for the engine: one is sent in each round, and a step takes them all."""


class AdvanceInbox:
    """Advances that no step has taken. One thread posts, another takes."""

    def __init__(self, position: int) -> None:
        """Begin empty. position: where the committed tokens end."""
        self._waiting: deque[Advance] = deque()
        self._expected = position

    def __bool__(self) -> bool:
        """Whether some wait."""
        return bool(self._waiting)

    def post(self, advance: Advance) -> None:
        """Add one.

        InvalidArgument when it leaves a gap or overlaps, ResourceExhausted when too many wait.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise ResourceExhausted(f"{MOST_WAITING} advances wait, the limit for one session")
        if advance.position != self._expected:
            limit = f"{self._expected}, where the committed tokens end"
            raise InvalidArgument.of("advance.position", advance.position, limit)
        self._expected += len(advance.token_ids)
        self._waiting.append(advance)

    def take(self) -> Iterator[Advance]:
        """All that wait, one after the other, in order."""
        while self._waiting:
            yield self._waiting.popleft()
