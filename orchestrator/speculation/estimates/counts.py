"""What streams come to, counted verdict by verdict: rounds, tokens, draft positions. Pure.

An observation is a few additions, so that whoever looks sees streams that still run.
"""

from collections import Counter
from itertools import zip_longest

from paceline.protocol.proposal import Drafter
from paceline.protocol.verdict import Verdict


class Counts:
    """Tokens and rounds, and draft tokens by draft position; of one stream or of many.

    drafted: draft tokens received. verified, accepted: draft tokens that were; of branches:
    branch_verified, branch_accepted.
    """

    def __init__(self) -> None:
        """Begin at 0."""
        self.tokens = self.rounds = self.target_only_steps = 0
        self.verified = self.accepted = 0
        self.branch_verified = self.branch_accepted = 0
        self.drafted: Counter[Drafter] = Counter()
        # Rounds by how many draft tokens they verified, and accepted.
        self._verified_lengths: dict[int, float] = {}
        self._accepted_lengths: dict[int, float] = {}

    def observe(self, verdict: Verdict) -> None:
        """A verdict, without the tokens behind a stop string."""
        self.tokens += len(verdict.token_ids)
        if not verdict.verified:
            self.target_only_steps += 1
            return
        self.rounds += 1
        self.verified += verdict.verified
        self.accepted += verdict.accepted
        self.branch_verified += verdict.branch_verified
        self.branch_accepted += verdict.branch_accepted
        verified, accepted = self._verified_lengths, self._accepted_lengths
        verified[verdict.verified] = verified.get(verdict.verified, 0) + 1
        accepted[verdict.accepted] = accepted.get(verdict.accepted, 0) + 1

    def fade(self) -> None:
        """In acceptance rates the rounds so far weigh half as much from now on."""
        for lengths in (self._verified_lengths, self._accepted_lengths):
            lengths.update({length: count / 2 for length, count in lengths.items()})

    @property
    def wasted(self) -> int:
        """Draft tokens received and not accepted; those not judged yet included."""
        return self.drafted.total() - self.accepted

    @property
    def verified_by_position(self) -> tuple[int, ...]:
        """Draft tokens verified, by draft position."""
        return tuple(map(int, _by_position(self._verified_lengths)))

    @property
    def accepted_by_position(self) -> tuple[int, ...]:
        """Draft tokens accepted, by draft position, as far as one was accepted."""
        return tuple(map(int, _by_position(self._accepted_lengths)))

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted of verified draft tokens; None before the first round."""
        verified, accepted = _total(self._verified_lengths), _total(self._accepted_lengths)
        return accepted / verified if verified else None

    @property
    def acceptance_by_position(self) -> tuple[float, ...]:
        """The same by draft position."""
        verified = _by_position(self._verified_lengths)
        accepted = _by_position(self._accepted_lengths)
        pairs = zip_longest(accepted, verified, fillvalue=0.0)
        return tuple(right / asked for right, asked in pairs)


class PoolCounts(Counts):
    """Counts of the streams that have drafts of one pool, or none.

    moved: streams that left it for another pool. reasons: steps planned for each reason.
    """

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self.streams = self.running = self.moved = 0
        self.reasons: Counter[str] = Counter()


def _by_position(lengths: dict[int, float]) -> tuple[float, ...]:
    """How many lengths reach each draft position. Copied first: a scrape has its own thread."""
    found = lengths.copy()
    longest = max(found, default=0)
    return tuple(
        sum(count for length, count in found.items() if length > position)
        for position in range(longest)
    )


def _total(lengths: dict[int, float]) -> float:
    return sum(length * count for length, count in lengths.copy().items())
