"""Statistics of one stream, gathered verdict by verdict. Pure: times are handed in."""

from collections import Counter
from statistics import median

from paceline.generation import Statistics
from paceline.session import Drafter, Verdict


class StreamStatistics:
    """Counts and times of one stream; times are in seconds on any one monotonic clock."""

    def __init__(self, arrived: float) -> None:
        """`arrived`: when the request came."""
        self._arrived = arrived
        self._first_token: float | None = None
        self._last_token = arrived
        self._overheads: list[float] = []
        self._accepted: list[int] = []
        self._verified: list[int] = []
        self.round_seconds: list[float] = []
        self.drafted: Counter[Drafter] = Counter()
        self.rounds = 0
        self.plain_steps = 0

    @property
    def accepted(self) -> int:
        """Draft tokens accepted."""
        return sum(self._accepted)

    def observe(self, verdict: Verdict, now: float, draft_wait: float) -> None:
        """A verdict came `now`, of a round that had waited `draft_wait` for its draft."""
        if self._first_token is None:
            self._first_token = now
        elif verdict.verified:
            wall = now - self._last_token
            self.round_seconds.append(wall)
            self._overheads.append(wall - draft_wait - verdict.step_seconds)
        self._last_token = now
        if not verdict.verified:
            self.plain_steps += 1
            return
        self.rounds += 1
        _count_places(self._verified, verdict.verified)
        _count_places(self._accepted, verdict.accepted)

    def result(self) -> Statistics:
        """The statistics so far."""
        first = self._first_token if self._first_token is not None else self._last_token
        places = len(self._verified)
        return Statistics(
            rounds=self.rounds,
            drafted=self.drafted.total(),
            verified=sum(self._verified),
            accepted=self.accepted,
            accepted_by_place=tuple(self._accepted + [0] * (places - len(self._accepted))),
            verified_by_place=tuple(self._verified),
            plain_steps=self.plain_steps,
            ttft_seconds=first - self._arrived,
            decode_seconds=self._last_token - first,
            overhead_seconds=median(self._overheads) if self._overheads else 0.0,
        )


def _count_places(counts: list[int], length: int) -> None:
    """Add 1 at each of the first `length` places."""
    counts.extend([0] * (length - len(counts)))
    for place in range(length):
        counts[place] += 1
