"""Branches: draft tokens for the case that the target picks the draft's second-best token. Pure.

A rejection costs a round trip to the draft, and its next steps, before there is something to
verify again. Where the target's token is the draft's second best, and the draft has already
gone on behind that, there is something at once.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from paceline.protocol.draft_path import DraftPath
from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Drafter, DraftToken, Proposal

MAX_TOKENS = 48
"""Tokens of all branches of one path together; no branch grows beyond."""
MAX_BRANCHES = 4
"""Most branches of one path that grow at a time."""
UNLIKELY = 0.02
"""Positions that the target reaches with less than this chance have no branches."""
LEAST_TAKEN = 0.15
"""Share of rejections, with a branch at hand, in which the target must take it. Below this
branches do not make up for the steps that a restart has to wait for."""
_PRIOR, _PRIOR_WEIGHT = 0.5, 8


@dataclass(slots=True)
class Branch:
    """A second-best token and what follows it. digest: of the path that ends with the branch.

    chance: that all that follows is right when the second-best token is.
    """

    second: int
    digest: int
    following: list[DraftToken] = field(default_factory=list)
    chance: float = 1.0

    @property
    def tokens(self) -> list[int]:
        """Its tokens, the second-best one first."""
        return [self.second, *(token.id for token in self.following)]

    @property
    def last(self) -> int:
        """Its last token."""
        return self.following[-1].id if self.following else self.second

    def append(self, token: DraftToken) -> None:
        """Continue it."""
        self.following.append(token)
        self.digest = mix(self.digest, token.id)
        self.chance *= _chance(token)


@dataclass(frozen=True, slots=True)
class BranchEnd:
    """The end of a branch, from which it may grow. branch_point: position of its first token.

    digest: of the path that ends with it.
    """

    branch_point: int
    digest: int

    def behind(self, token: int) -> "BranchEnd":
        """The end once the branch has one token more."""
        return BranchEnd(self.branch_point, mix(self.digest, token))


class BranchedPath(DraftPath):
    """Committed tokens, draft tokens behind them, and branches beside the draft tokens."""

    def __init__(
        self,
        committed: tuple[int, ...],
        max_length: int | None = None,
        stop_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        """Begin without draft tokens.

        max_length: of the output, with its prompt; the last token is never drafted.
        stop_token_ids: what no draft token follows.
        """
        super().__init__(committed)
        self._max_length = max_length
        self._stop = stop_token_ids
        self._drafted: list[DraftToken] = []
        self._chances: list[float] = []  # of each of them; needed in every step
        self._branches: dict[int, Branch] = {}
        self._likeliest: list[BranchEnd] | None = None
        self._tried = self._taken = 0

    def append(self, tokens: Sequence[DraftToken]) -> None:
        """Append draft tokens."""
        for token in tokens:
            if token.second is not None:
                branch = Branch(token.second, mix(self.digest, token.second))
                self._branches[len(self)] = branch
            self.extend((token.id,))
            self._chances.append(_chance(token))
        self._drafted += tokens
        self._likeliest = None

    def proposal(self, start: int) -> Proposal:
        """The draft tokens from position `start` on, which one drafter made.

        Only lookup proposes none.
        """
        tokens = self._drafted[start - self.committed :]
        return Proposal(
            start,
            self.digest_before(start),
            tuple(token.id for token in tokens),
            tuple(token.confidence for token in tokens),
            tokens[0].drafter if tokens else Drafter.NGRAM,
            _second_token_ids(tokens),
        )

    def commit(self, tokens: tuple[int, ...]) -> int:
        """As DraftPath. Behind a rejected draft token the path goes on with its branch, if it fits.

        The rest of that branch then are the draft tokens behind the committed ones.
        """
        begun = self.committed
        stayed = super().commit(tokens)
        self._likeliest = None
        if stayed >= self.committed:
            count = self.committed - begun
            del self._drafted[:count], self._chances[:count]
            for position in [one for one in self._branches if one < self.committed]:
                del self._branches[position]
            return stayed
        branch = self._branches.get(stayed)
        self._drafted, self._chances, self._branches = [], [], {}
        if branch is not None and branch.following:
            known = self.tokens[stayed:]
            self._tried += 1
            self._taken += known[0] == branch.second
            if branch.tokens[: len(known)] == known:
                self.append(branch.following[len(known) - 1 :])
        return stayed

    @property
    def _taken_enough(self) -> bool:
        """Whether the target takes branches often enough, as far as is known."""
        taken = self._taken + _PRIOR * _PRIOR_WEIGHT
        return taken >= LEAST_TAKEN * (self._tried + _PRIOR_WEIGHT)

    def likeliest_branches(self, count: int) -> list[BranchEnd]:
        """Ends of the `count` branches that the target would most likely take, to be grown.

        None where it hardly ever took one.
        """
        if not (count and self._taken_enough):
            return []
        if self._likeliest is None:  # several ask in each step
            self._likeliest = self._find_likeliest()
        return self._likeliest[:count]

    def _find_likeliest(self) -> list[BranchEnd]:
        room = MAX_TOKENS - sum(len(one.following) for one in self._branches.values())
        likely: list[tuple[float, int]] = []
        reached = 1.0
        for position, chance in enumerate(self._chances, self.committed):
            branch = self._branches.get(position)
            if branch is not None and self._may_grow(position, branch):
                likely.append((reached * (1.0 - chance) * branch.chance, position))
            reached *= chance
            if reached < UNLIKELY:
                break
        best = heapq.nlargest(min(MAX_BRANCHES, room), likely, key=lambda one: one[0])
        return [BranchEnd(position, self._branches[position].digest) for _, position in best]

    def holds(self, end: BranchEnd) -> bool:
        """Whether a branch still ends there: the path may have left it, and it may have grown."""
        return self._branch_at(end) is not None

    def tokens_to(self, end: BranchEnd) -> list[int]:
        """All tokens of prompt and output up to the end of a branch that the path holds."""
        branch = self._branch_at(end)
        return self.tokens[: end.branch_point] + (branch.tokens if branch else [])

    def grow(self, end: BranchEnd, token: DraftToken) -> Proposal | None:
        """Continue a branch; returns what is new of it, None when the path has left it.

        The second-best token is proposed with the first one behind it.
        """
        branch = self._branch_at(end)
        if branch is None:
            return None
        first = not branch.following
        position = end.branch_point + 1 + len(branch.following)
        branch.append(token)
        self._likeliest = None
        if not first:
            return Proposal(position, end.digest, (token.id,), (token.confidence,))
        base = self.digest_before(end.branch_point)
        tokens = (branch.second, token.id)
        return Proposal(end.branch_point, base, tokens, (0.0, token.confidence))

    def _branch_at(self, end: BranchEnd) -> Branch | None:
        """The branch that ends there."""
        branch = self._branches.get(end.branch_point)
        return branch if branch and branch.digest == end.digest else None

    def _may_grow(self, branch_point: int, branch: Branch) -> bool:
        end = branch_point + 1 + len(branch.following)
        fits = self._max_length is None or end < self._max_length - 1
        return fits and branch.last not in self._stop


def _second_token_ids(tokens: Sequence[DraftToken]) -> tuple[int, ...]:
    """See Proposal."""
    if all(token.second is None for token in tokens):
        return ()
    return tuple(token.id if token.second is None else token.second for token in tokens)


def _chance(token: DraftToken) -> float:
    """That the target picks the same, roughly: enough to tell which positions are least sure."""
    return 1.0 - 0.5 * math.exp(-token.confidence)
