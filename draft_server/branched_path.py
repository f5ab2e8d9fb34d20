"""Alternatives: what a draft guesses for the case that the target picks its second best. Pure.

A rejection costs a round trip to the draft and its next tokens before there is something to
verify again. Where the draft's second best token is the one that the target picked instead,
and the draft has gone on behind it beforehand, there is something at once.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from paceline.protocol.draft_path import AheadPath
from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Drafter, Proposal

MAX_TOKENS = 48
"""Tokens of all alternatives of one path together; the unlikely ones do not grow beyond."""
MAX_LEAVES = 4
"""Most alternatives of one path that are continued at a time."""
UNLIKELY = 0.02
"""Places that the target hardly reaches have no alternatives."""
LEAST_TAKEN = 0.15
"""Share of rejections, with an alternative at hand, in which the target must take it. Below this
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
class Alternative:
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
    """An alternative's end, to be continued. place: where it leaves the path.

    digest: of the path that ends with it.
    """

    place: int
    digest: int

    def grown(self, token: int) -> "Leaf":
        """The same alternative with one token more."""
        return Leaf(self.place, mix(self.digest, token))


class BranchedPath(AheadPath):
    """A confirmed path, guesses ahead of it, and alternatives to the guesses."""

    def __init__(
        self,
        confirmed: tuple[int, ...],
        max_length: int | None = None,
        stop_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        """Begin without guesses.

        max_length: of the output, with its prompt; the last token is never guessed.
        stop_token_ids: what no guess follows.
        """
        super().__init__(confirmed)
        self._max_length = max_length
        self._stop = stop_token_ids
        self._picks: list[Pick] = []
        self._alternatives: dict[int, Alternative] = {}
        self._leaves: list[Leaf] | None = None
        self._tried = self._taken = 0

    def guess(self, picks: Sequence[Pick]) -> None:
        """Append guesses."""
        for pick in picks:
            if pick.second is not None:
                other = Alternative(pick.second, mix(self.digest, pick.second))
                self._alternatives[len(self)] = other
            self.extend((pick.token,))
        self._picks += picks
        self._leaves = None

    def proposal(self, start: int, drafter: Drafter = Drafter.MODEL) -> Proposal:
        """The guesses from position `start` on."""
        picks = self._picks[start - self.confirmed :]
        tokens = tuple(pick.token for pick in picks)
        margins = tuple(pick.margin for pick in picks)
        return Proposal(start, self.digest_before(start), tokens, margins, drafter)

    def confirm(self, tokens: tuple[int, ...]) -> int:
        """As AheadPath. Behind a rejected guess the path goes on with its alternative, if it fits.

        What it goes on with are guesses that begin behind the confirmed tokens.
        """
        begun = self.confirmed
        stayed = super().confirm(tokens)
        self._leaves = None
        if stayed >= self.confirmed:
            del self._picks[: self.confirmed - begun]
            for place in [place for place in self._alternatives if place < self.confirmed]:
                del self._alternatives[place]
            return stayed
        alternative = self._alternatives.get(stayed)
        self._picks, self._alternatives = [], {}
        if alternative is not None and alternative.picks:
            known = self.tokens[stayed:]
            self._tried += 1
            self._taken += known[0] == alternative.second
            if alternative.tokens[: len(known)] == known:
                self.guess(alternative.picks[len(known) - 1 :])
        return stayed

    @property
    def _taken_enough(self) -> bool:
        """Whether the target takes alternatives often enough, as far as is known."""
        taken = self._taken + _PRIOR * _PRIOR_WEIGHT
        return taken >= LEAST_TAKEN * (self._tried + _PRIOR_WEIGHT)

    def leaves(self, count: int) -> list[Leaf]:
        """The `count` alternatives that the target would most likely follow, to be continued.

        None where it hardly ever did.
        """
        if not (count and self._taken_enough):
            return []
        if self._leaves is None:  # several ask in each step
            self._leaves = self._likeliest()
        return self._leaves[:count]

    def _likeliest(self) -> list[Leaf]:
        room = MAX_TOKENS - sum(len(one.picks) for one in self._alternatives.values())
        likely: list[tuple[float, int]] = []
        reached = 1.0
        for place, pick in enumerate(self._picks, self.confirmed):
            alternative = self._alternatives.get(place)
            if alternative is not None and self._may_grow(place, alternative):
                likely.append((reached * (1.0 - pick.chance) * alternative.chance, place))
            reached *= pick.chance
            if reached < UNLIKELY:
                break
        best = heapq.nlargest(min(MAX_LEAVES, room), likely, key=lambda one: one[0])
        return [Leaf(place, self._alternatives[place].digest) for _, place in best]

    def holds(self, leaf: Leaf) -> bool:
        """Whether the path has not left an alternative meanwhile."""
        return self._at(leaf) is not None

    def tokens_to(self, leaf: Leaf) -> list[int]:
        """All tokens of prompt and output up to a leaf that the path holds."""
        alternative = self._at(leaf)
        return self.tokens[: leaf.place] + (alternative.tokens if alternative else [])

    def grow(self, leaf: Leaf, pick: Pick) -> Proposal | None:
        """Continue an alternative; returns what is new of it, None when the path has left it."""
        alternative = self._at(leaf)
        if alternative is None:
            return None
        first = not alternative.picks
        position = leaf.place + 1 + len(alternative.picks)
        alternative.append(pick)
        self._leaves = None
        if not first:
            return Proposal(position, leaf.digest, (pick.token,), (pick.margin,))
        base = self.digest_before(leaf.place)
        tokens = (alternative.second, pick.token)
        return Proposal(leaf.place, base, tokens, (0.0, pick.margin))

    def _at(self, leaf: Leaf) -> Alternative | None:
        """The alternative that ends with `leaf`."""
        alternative = self._alternatives.get(leaf.place)
        return alternative if alternative and alternative.digest == leaf.digest else None

    def _may_grow(self, place: int, alternative: Alternative) -> bool:
        end = place + 1 + len(alternative.picks)
        fits = self._max_length is None or end < self._max_length - 1
        return fits and alternative.last not in self._stop
