"""Running ahead: what a draft has drafted beyond the committed tokens. Pure: no I/O, no clock."""

import sys
from collections import deque
from collections.abc import Collection, Sequence

from draft_server.branched_path import BranchedPath, Leaf, Pick
from draft_server.prompt_lookup import PromptLookup
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.proposal import Drafter, Proposal
from paceline.protocol.session import Advance, CostModel, Opening
from paceline.protocol.vocabulary import VocabularyMap

TOKEN_SHARE = 0.05
"""Branches are worked on where a row adds no more to a step than this share of it."""


MOST_WAITING = 1024
"""Advances that may wait for the engine: one is sent in each round, and a step takes them all."""


class Lookahead:
    """Committed tokens, the draft tokens that follow them up to the lookahead, and branches."""

    def __init__(self, opening: Opening) -> None:
        """Begin at the end of the opening's tokens, with no lookahead."""
        self._opening = opening
        committed = opening.prompt_token_ids + opening.output_token_ids
        self._path = BranchedPath(committed, opening.max_length, opening.stop_token_ids)
        self._lookahead = self._ngram_lookahead = self._granted = 0
        self._unchanged = sys.maxsize
        self._awaited: tuple[int] | None = None  # one of each Advance that names some
        self._released: tuple[int] | None = None  # the last of them whose draft tokens are there
        self._told = self._path.committed  # draft tokens before this are on their way
        self._took = False
        self._branches_are_cheap = True
        self.branch_tokens = self.branches_taken = 0
        self._inbox: deque[Advance] = deque()
        self._expected = self._path.committed

    @property
    def vocabulary(self) -> VocabularyMap | None:
        """The target's, where it is not the draft's own."""
        return self._opening.vocabulary

    @property
    def tokens(self) -> list[int]:
        """Committed tokens and draft tokens."""
        return self._path.tokens

    @property
    def committed(self) -> list[int]:
        """Committed tokens."""
        return self._path.tokens[: self._path.committed]

    @property
    def committed_length(self) -> int:
        """How many tokens are committed."""
        return self._path.committed

    @property
    def has_news(self) -> bool:
        """Whether something was posted that catch_up has not applied."""
        return bool(self._inbox)

    def post(self, advance: Advance) -> None:
        """Take an Advance, on any thread.

        InvalidArgument when it leaves a gap or overlaps, ResourceExhausted when too many wait.
        """
        if len(self._inbox) >= MOST_WAITING:
            raise ResourceExhausted(f"{MOST_WAITING} advances wait, the limit for one session")
        if advance.position != self._expected:
            limit = f"{self._expected}, where the committed tokens ends"
            raise InvalidArgument.of("advance.position", advance.position, limit)
        self._expected += len(advance.token_ids)
        self._inbox.append(advance)

    def apply(self) -> None:
        """Apply what was posted."""
        while self._inbox:
            advance = self._inbox.popleft()
            stayed = self._path.commit(advance.token_ids)
            self._unchanged = min(self._unchanged, stayed)
            self._told = max(min(self._told, stayed), self._path.committed)
            if stayed < self._path.committed < len(self._path):
                self._took = True
                self.branches_taken += 1
            self._lookahead = advance.lookahead
            awaited = self._path.committed + advance.awaited
            self._awaited = (awaited,) if advance.awaited else None
            self._ngram_lookahead = max(advance.lookahead, advance.ngram_lookahead)
            self._granted = advance.branches if advance.lookahead else 0

    def catch_up(self) -> int:
        """Apply what was posted; returns the length up to which the tokens stayed as they were.

        That is since the last time, as apply may have been called meanwhile.
        """
        self.apply()
        unchanged, self._unchanged = min(self._unchanged, len(self._path)), sys.maxsize
        return unchanged

    def told(self) -> None:
        """All draft tokens so far were delivered."""
        self._told = len(self._path)

    def take_awaited(self) -> bool:
        """Whether the tokens that are waited for are on their way; only once for each Advance.

        On the event loop, while the worker may apply the next one, which must not get lost, or
        has made the last of them and not delivered it, which must not be left behind.
        """
        awaited = self._awaited
        if awaited is None or awaited is self._released or self._told < awaited[0]:
            return False
        self._released = awaited
        return True

    def taken(self) -> Proposal | None:
        """The draft tokens, if they were a branch until the target picked it; told once."""
        took, self._took = self._took, False
        return (
            self._path.proposal(self._path.committed) if took and self._path.draft_tokens else None
        )

    def note_cost(self, cost: CostModel | None) -> None:
        """Learn what a step costs: branches are for where their rows are all but free."""
        if cost is not None:
            one = cost.step_seconds + cost.token_seconds
            self._branches_are_cheap = cost.token_seconds <= TOKEN_SHARE * one

    @property
    def has_branches(self) -> bool:
        """Whether there may be branches to work on."""
        return self._granted > 0 and self._branches_are_cheap

    def leaf(self, claimed: Collection[Leaf], own: Leaf | None) -> Leaf | None:
        """The branch to work on while others work on `claimed`; `own` if it is among them."""
        granted = self._granted if self.has_branches else 0
        leaves = [leaf for leaf in self._path.leaves(granted) if leaf not in claimed]
        return own if own in leaves else next(iter(leaves), None)

    def holds(self, leaf: Leaf) -> bool:
        """Whether the path has not left a branch meanwhile."""
        return self._path.holds(leaf)

    def tokens_to(self, leaf: Leaf) -> list[int]:
        """All tokens up to the end of a branch that the path holds."""
        return self._path.tokens_to(leaf)

    def grow(self, leaf: Leaf, pick: Pick) -> Proposal | None:
        """Continue a branch; returns what is new of it, None when the path has left it."""
        proposal = self._path.grow(leaf, pick)
        self.branch_tokens += proposal is not None
        return proposal

    @property
    def wanted(self) -> int:
        """Draft tokens to make now, within lookahead and the output's room; may be negative."""
        return self._wanted(self._lookahead)

    @property
    def wanted_of_lookup(self) -> int:
        """The same for lookup."""
        return self._wanted(self._ngram_lookahead)

    def _wanted(self, lookahead: int) -> int:
        """The target adds a token of its own, so the last one of the output is never drafted."""
        room = self._opening.max_length - self._path.committed - 1
        drafted = len(self._path) - self._path.committed
        return 0 if self._stopped else min(lookahead, room) - drafted

    @property
    def _stopped(self) -> bool:
        """Whether the tokens end with one that ends the output."""
        has_output = len(self._path) > len(self._opening.prompt_token_ids)
        return has_output and self._path.tokens[-1] in self._opening.stop_token_ids

    def look_up(self, lookup: PromptLookup, least: int) -> Proposal:
        """Draft token what followed the same tokens before, where at least `least` of them match.

        The proposal, appended, ends at a stop token; it is empty without a match.
        """
        match = lookup.find(self.tokens, self.wanted_of_lookup, least)
        sure = float(match.length)
        picks = [Pick(token, sure) for token in self._up_to_stop(match.following)]
        return self.propose(picks, Drafter.NGRAM)

    def _up_to_stop(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        for index, token in enumerate(tokens):
            if token in self._opening.stop_token_ids:
                return tokens[: index + 1]
        return tokens

    def propose(self, picks: Sequence[Pick], drafter: Drafter) -> Proposal:
        """Append draft tokens; returns them as a proposal."""
        start = len(self._path)
        self._path.draft_token(picks)
        return self._path.proposal(start, drafter)
