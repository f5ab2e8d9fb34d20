"""Branches: what a draft model drafts for the case that the target picks its second best. Pure.

A rejection costs a round trip to the draft and its next tokens before there is something to
verify again. Where the draft's second best token is the one that the target picked instead,
and the draft has gone on behind it beforehand, there is something at once.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from paceline.protocol.draft_path import DraftPath
from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Drafter, Proposal

MAX_TOKENS = 48
"""Tokens of all branches of one path together; the unlikely ones do not grow beyond."""
MAX_LEAVES = 4
"""Most branches of one path that are continued at a time."""
UNLIKELY = 0.02
"""Places that the target hardly reaches have no branches."""
LEAST_TAKEN = 0.15
"""Share of rejections, with a branch at hand, in which the target must take it. Below this
they do not make up for the steps that a restart has to wait for."""
_PRIOR, _PRIOR_WEIGHT = 0.5, 8


@dataclass(frozen=True, slots=True)
class Pick:
    """What a draft picked for a position. margin: of its noisy score over the second best one's.

    second: the token with that; None where there is no other. chance: that the target picks the
    same, roughly, to tell which places are the least sure.
    """

    token: int
    margin: float
    second: int | None = None
    chance: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out the chance, which is asked for in every step."""
        object.__setattr__(self, "chance", 1.0 - 0.5 * math.exp(-self.margin))


@dataclass(slots=True)
class Branch:
    """A second best token and what follows it. digest: of the path that ends with it.

    chance: that all its picks are right when its first token is.
    """

    second: int
    digest: int
    picks: list[Pick] = field(default_factory=list)
    chance: float = 1.0

    @property
    def tokens(self) -> list[int]:
        """Its tokens, the second best one first."""
        return [self.second, *(pick.token for pick in self.picks)]

    @property
    def last(self) -> int:
        """Its last token."""
        return self.picks[-1].token if self.picks else self.second

    def append(self, pick: Pick) -> None:
        """Continue it."""
        self.picks.append(pick)
        self.digest = mix(self.digest, pick.token)
        self.chance *= pick.chance


@dataclass(frozen=True, slots=True)
class Leaf:
    """A branch's end, to be continued. place: where it leaves the path.

    digest: of the path that ends with it.
    """

    place: int
    digest: int

    def grown(self, token: int) -> "Leaf":
        """The same branch with one token more."""
        return Leaf(self.place, mix(self.digest, token))


class BranchedPath(DraftPath):
    """A committed tokens, draft tokens ahead of it, and branches to the draft tokens."""

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
        self._picks: list[Pick] = []
        self._branches: dict[int, Branch] = {}
        self._leaves: list[Leaf] | None = None
        self._tried = self._taken = 0

    def draft_token(self, picks: Sequence[Pick]) -> None:
        """Append draft tokens."""
        for pick in picks:
            if pick.second is not None:
                other = Branch(pick.second, mix(self.digest, pick.second))
                self._branches[len(self)] = other
            self.extend((pick.token,))
        self._picks += picks
        self._leaves = None

    def proposal(self, start: int, drafter: Drafter = Drafter.MODEL) -> Proposal:
        """The draft tokens from position `start` on."""
        picks = self._picks[start - self.committed :]
        tokens = tuple(pick.token for pick in picks)
        margins = tuple(pick.margin for pick in picks)
        return Proposal(start, self.digest_before(start), tokens, margins, drafter)

    def commit(self, tokens: tuple[int, ...]) -> int:
        """As DraftPath. Behind a rejected draft token the path goes on with its branch, if it fits.

        What it goes on with are draft tokens that begin behind the committed tokens.
        """
        begun = self.committed
        stayed = super().commit(tokens)
        self._leaves = None
        if stayed >= self.committed:
            del self._picks[: self.committed - begun]
            for place in [place for place in self._branches if place < self.committed]:
                del self._branches[place]
            return stayed
        branch = self._branches.get(stayed)
        self._picks, self._branches = [], {}
        if branch is not None and branch.picks:
            known = self.tokens[stayed:]
            self._tried += 1
            self._taken += known[0] == branch.second
            if branch.tokens[: len(known)] == known:
                self.draft_token(branch.picks[len(known) - 1 :])
        return stayed

    @property
    def _taken_enough(self) -> bool:
        """Whether the target takes branches often enough, as far as is known."""
        taken = self._taken + _PRIOR * _PRIOR_WEIGHT
        return taken >= LEAST_TAKEN * (self._tried + _PRIOR_WEIGHT)

    def leaves(self, count: int) -> list[Leaf]:
        """The `count` branches that the target would most likely follow, to be continued.

        None where it hardly ever did.
        """
        if not (count and self._taken_enough):
            return []
        if self._leaves is None:  # several ask in each step
            self._leaves = self._likeliest()
        return self._leaves[:count]

    def _likeliest(self) -> list[Leaf]:
        room = MAX_TOKENS - sum(len(one.picks) for one in self._branches.values())
        likely: list[tuple[float, int]] = []
        reached = 1.0
        for place, pick in enumerate(self._picks, self.committed):
            branch = self._branches.get(place)
            if branch is not None and self._may_grow(place, branch):
                likely.append((reached * (1.0 - pick.chance) * branch.chance, place))
            reached *= pick.chance
            if reached < UNLIKELY:
                break
        best = heapq.nlargest(min(MAX_LEAVES, room), likely, key=lambda one: one[0])
        return [Leaf(place, self._branches[place].digest) for _, place in best]

    def holds(self, leaf: Leaf) -> bool:
        """Whether the path has not left a branch meanwhile."""
        return self._at(leaf) is not None

    def tokens_to(self, leaf: Leaf) -> list[int]:
        """All tokens of prompt and output up to a leaf that the path holds."""
        branch = self._at(leaf)
        return self.tokens[: leaf.place] + (branch.tokens if branch else [])

    def grow(self, leaf: Leaf, pick: Pick) -> Proposal | None:
        """Continue a branch; returns what is new of it, None when the path has left it."""
        branch = self._at(leaf)
        if branch is None:
            return None
        first = not branch.picks
        position = leaf.place + 1 + len(branch.picks)
        branch.append(pick)
        self._leaves = None
        if not first:
            return Proposal(position, leaf.digest, (pick.token,), (pick.margin,))
        base = self.digest_before(leaf.place)
        tokens = (branch.second, pick.token)
        return Proposal(leaf.place, base, tokens, (0.0, pick.margin))

    def _at(self, leaf: Leaf) -> Branch | None:
        """The branch that ends with `leaf`."""
        branch = self._branches.get(leaf.place)
        return branch if branch and branch.digest == leaf.digest else None

    def _may_grow(self, place: int, branch: Branch) -> bool:
        end = place + 1 + len(branch.picks)
        fits = self._max_length is None or end < self._max_length - 1
        return fits and branch.last not in self._stop
