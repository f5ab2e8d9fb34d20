"""What streams come to with the drafts of one pool, or with none, counted as verdicts come. Pure.

Few additions a verdict, so that whoever looks sees streams that still run; counts only grow.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from paceline.protocol.proposal import Drafter
from paceline.protocol.verdict import Verdict

Count = TypeVar("Count", int, float)


class Counts:
    """Counts of tokens, rounds and draft tokens."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.streams = self.running = self.moved = 0
        self.tokens = self.rounds = self.target_only_steps = 0
        self.verified = self.accepted = 0
        self.drafted: Counter[Drafter] = Counter()
        self.reasons: Counter[str] = Counter()
        self._verified_lengths: Counter[int] = Counter()
        self._accepted_lengths: Counter[int] = Counter()

    def observe(self, verdict: Verdict) -> None:
        """A verdict, without the tokens behind a stop string."""
        self.tokens += len(verdict.token_ids)
        if not verdict.verified:
            self.target_only_steps += 1
            return
        self.rounds += 1
        self.verified += verdict.verified
        self.accepted += verdict.accepted
        self._verified_lengths[verdict.verified] += 1
        self._accepted_lengths[verdict.accepted] += 1

    @property
    def wasted(self) -> int:
        """Draft tokens received and not accepted; those not judged yet included."""
        return self.drafted.total() - self.accepted

    @property
    def verified_by_position(self) -> tuple[int, ...]:
        """Draft tokens verified, by draft position."""
        return by_position(self._verified_lengths)

    @property
    def accepted_by_position(self) -> tuple[int, ...]:
        """Draft tokens accepted, by draft position."""
        return by_position(self._accepted_lengths)


def by_position(lengths: Mapping[int, Count]) -> tuple[Count, ...]:
    """How many lengths reach each draft position. Copied first: a scrape has its own thread."""
    found = dict(lengths)
    most = max(found, default=0)
    return tuple(
        sum(count for length, count in found.items() if length > place) for place in range(most)
    )
