"""Running ahead: what a draft has drafted beyond the committed tokens. Pure: no I/O, no clock.

The orchestrator grants how far that may be: orchestrator/speculation/drafting/lookahead.py.
"""

import sys
from collections.abc import Collection, Sequence

from draft_server.advances import AdvanceInbox
from draft_server.awaited import AwaitedTokens
from draft_server.branched_path import BranchedPath, BranchEnd
from draft_server.prompt_lookup import PromptLookup
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.session import CostModel, Opening
from paceline.protocol.vocabulary import VocabularyMap

TOKEN_SHARE = 0.05
"""Branches are worked on where a token adds no more to a step than this share of it."""


class RunAhead:
    """Committed tokens, the draft tokens behind them within the granted lookahead, and branches."""

    def __init__(self, opening: Opening) -> None:
        """Begin at the end of the opening's tokens, with no lookahead."""
        self._opening = opening
        self._allowed = frozenset(opening.sampling.allowed_token_ids)
        committed = opening.prompt_token_ids + opening.output_token_ids
        self._path = BranchedPath(committed, opening.max_length, opening.stop_token_ids)
        self._inbox = AdvanceInbox(len(committed))
        self._granted = Advance(len(committed), (), lookahead=0)  # the last one applied
        self.awaited = AwaitedTokens(len(committed))
        self._unchanged = sys.maxsize
        self._took_branch = False
        self._branches_are_cheap = True
        self.branch_tokens = self.branches_taken = 0

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
        """Whether something was posted that was not applied."""
        return bool(self._inbox)

    def post(self, advance: Advance) -> None:
        """Take an Advance, on any thread.

        InvalidArgument when it leaves a gap or overlaps, ResourceExhausted when too many wait.
        """
        self._inbox.post(advance)

    def apply(self) -> None:
        """Apply what was posted."""
        for advance in self._inbox.take():
            stayed = self._path.commit(advance.token_ids)
            self._unchanged = min(self._unchanged, stayed)
            if stayed < self._path.committed < len(self._path):
                self._took_branch = True
                self.branches_taken += 1
            self._granted = advance
            self.awaited.commit(stayed, self._path.committed, advance.awaited)

    def catch_up(self) -> int:
        """Apply what was posted; returns the length up to which the tokens stayed as they were.

        That is since the last time, as apply may have been called meanwhile.
        """
        self.apply()
        unchanged, self._unchanged = min(self._unchanged, len(self._path)), sys.maxsize
        return unchanged

    def delivered(self) -> None:
        """All draft tokens so far were delivered."""
        self.awaited.deliver(len(self._path))

    def taken_branch(self) -> Proposal | None:
        """The draft tokens, if they were a branch until the target took it; only once."""
        took, self._took_branch = self._took_branch, False
        if took and len(self._path) > self._path.committed:
            return self._path.proposal(self._path.committed)
        return None

    def observe_cost(self, cost: CostModel | None) -> None:
        """Learn what a step costs: branches are for where their tokens cost next to nothing."""
        if cost is not None:
            one = cost.step_seconds + cost.token_seconds
            self._branches_are_cheap = cost.token_seconds <= TOKEN_SHARE * one

    @property
    def _granted_branches(self) -> int:
        allowed = self._branches_are_cheap and self._granted.lookahead > 0
        return self._granted.branches if allowed else 0

    @property
    def has_branches(self) -> bool:
        """Whether there may be branches to work on."""
        return self._granted_branches > 0

    def branch_to_grow(
        self, claimed: Collection[BranchEnd], own: BranchEnd | None
    ) -> BranchEnd | None:
        """The branch to work on while others work on `claimed`; `own` if it is still granted."""
        likeliest = self._path.likeliest_branches(self._granted_branches)
        free = [end for end in likeliest if end not in claimed]
        return own if own in free else next(iter(free), None)

    def holds(self, end: BranchEnd) -> bool:
        """Whether a branch still ends there: the path may have left it, and it may have grown."""
        return self._path.holds(end)

    def tokens_to(self, end: BranchEnd) -> list[int]:
        """All tokens up to the end of a branch that the path holds."""
        return self._path.tokens_to(end)

    def grow(self, end: BranchEnd, token: DraftToken) -> Proposal | None:
        """Continue a branch; returns what is new of it, None when the path has left it."""
        proposal = self._path.grow(end, token)
        self.branch_tokens += proposal is not None
        return proposal

    @property
    def wanted(self) -> int:
        """Draft tokens to make now, within lookahead and the output's room; may be negative."""
        return self._wanted(self._granted.lookahead)

    @property
    def wanted_of_lookup(self) -> int:
        """The same for prompt lookup."""
        return self._wanted(max(self._granted.lookahead, self._granted.ngram_lookahead))

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
        """Draft what followed the same tokens before, where at least `least` of them match.

        The proposal, appended, ends at a stop token; it is empty without a match.
        """
        match = lookup.find(self.tokens, self.wanted_of_lookup, least)
        confidence = float(match.length)
        tokens = [
            DraftToken(token, confidence, Drafter.NGRAM)
            for token in self._up_to_stop(self._possible(match.following))
        ]
        return self.propose(tokens)

    def _possible(self, following: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens up to the first that cannot be taken: the target never agrees with that one."""
        sampling = self._opening.sampling
        if not sampling.forbids:
            return following
        output = self.tokens[len(self._opening.prompt_token_ids) :]
        for index, token in enumerate(following):
            if (self._allowed and token not in self._allowed) or token in sampling.bad_after(
                output
            ):
                return following[:index]
            output.append(token)
        return following

    def _up_to_stop(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        for index, token in enumerate(tokens):
            if token in self._opening.stop_token_ids:
                return tokens[: index + 1]
        return tokens

    def propose(self, tokens: Sequence[DraftToken]) -> Proposal:
        """Append draft tokens of one drafter; returns them as a proposal.

        Without any it says that nothing comes before the next Advance.
        """
        start = len(self._path)
        self._path.append(tokens)
        return self._path.proposal(start)
