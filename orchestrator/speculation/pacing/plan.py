"""What a round waits for and what it verifies: a plan, with one of two rules of waiting. Pure.

A draft token is worth its chance to be accepted, with all before it. It is verified when that is
more than its verification costs, and waited for when that is more than the wait costs as well. Both
costs are counted in tokens that the stream would make in that time. This is optimal stopping of a
renewal-reward process (Ross 1970); its throughput is learned online, so that nothing is tuned.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from orchestrator.speculation.estimates.acceptance import StreamAcceptance
from paceline.protocol.proposal import DraftToken
from paceline.values import value

TARGET_ONLY_STEPS = 16
"""Ordinary decode steps asked for at once, so that the target alone pays no round trip per
token."""
LATE = 4.0
"""A draft token that takes so many times as long as expected is waited for no longer."""
LATE_SECONDS = 0.2
"""A pause of a process or of a network may be as long: the first draft token may come so late."""
BRANCH_MARGIN = 1.5
"""A token of a branch must bring so many times what its verification costs: what it costs the
orchestrator and the draft is not in that. In virtual time 1 is no faster."""
BRANCHES = 2
"""What a stream alone lets its draft work on, beside its draft tokens, where it has cores of its
own."""


@value(frozen=True, slots=True)
class KnownBranch:
    """What may come in place of the draft token at `draft_position`, and behind it."""

    draft_position: int
    tokens: tuple[DraftToken, ...]


@value(frozen=True, slots=True)
class Worth:
    """What draft tokens of a stream are worth, in tokens.

    token_cost: what the verification of one costs. branch_cost: what a branch costs beside its
    tokens. most_branch_tokens: bound of those that are verified beside the draft tokens.
    """

    acceptance: StreamAcceptance
    token_cost: float
    branch_cost: float = math.inf
    most_branch_tokens: int = 0

    def one_more(self, draft_tokens: Sequence[DraftToken]) -> float:
        """What one more draft token behind these is expected to bring, its verification paid."""
        chance = self.acceptance.all_right(draft_tokens) * self.acceptance.next_chance
        return chance - self.token_cost

    def length(self, draft_tokens: Sequence[DraftToken]) -> int:
        """How many have a chance, all before them included, of more than they cost."""
        chance = 1.0
        for position, token in enumerate(draft_tokens):
            chance *= self.acceptance.chance(token)
            if chance <= self.token_cost:
                return position
        return len(draft_tokens)

    def branches(
        self, draft_tokens: Sequence[DraftToken], known: Sequence[KnownBranch]
    ) -> tuple[KnownBranch, ...]:
        """The branches to verify beside these draft tokens, the best ones within the bound.

        A right token of a branch brings one token, as one of the draft tokens does: the target's
        own token comes behind it. The chances exclude each other, so each branch counts by itself.
        """
        begin = self._second_chances(draft_tokens)
        gains = [self._gains(branch, begin[branch.draft_position]) for branch in known]
        best = sorted(range(len(known)), key=lambda index: sum(gains[index]), reverse=True)
        chosen: list[KnownBranch] = []
        left = self.most_branch_tokens
        for index in best:
            if left > 0 and sum(gains[index]) > BRANCH_MARGIN * self.branch_cost:
                tokens = known[index].tokens[: min(left, len(gains[index]))]
                chosen.append(KnownBranch(known[index].draft_position, tokens))
                left -= len(tokens)
        return tuple(chosen)

    def _second_chances(self, draft_tokens: Sequence[DraftToken]) -> list[float]:
        """Of each, that the target takes its second-best token, and all draft tokens before it."""
        reached, chances = 1.0, []
        for token in draft_tokens:
            chances.append(reached * self.acceptance.second_chance(token))
            reached *= self.acceptance.chance(token)
        return chances

    def _gains(self, branch: KnownBranch, chance: float) -> list[float]:
        """What its tokens bring beyond their cost, as far as they bring something.

        chance: that the first one is taken.
        """
        gains = []
        for position, token in enumerate(branch.tokens):
            chance *= self.acceptance.chance(token) if position else 1.0
            if chance <= BRANCH_MARGIN * self.token_cost:
                break
            gains.append(chance - self.token_cost)
        return gains


@value(frozen=True, slots=True)
class WaitForCount:
    """Wait until there are `count` draft tokens, so that they may come together.

    max_wait_seconds: bound of the wait for each draft token; where `in_all`, for all of them.
    measured: one that takes far longer than expected is not waited for, either. meanwhile: the
    target decodes on, and they are for the step after the one that is under way; what is at hand to
    begin with is for the next one, and nothing is waited for then.
    """

    count: int = 0
    max_wait_seconds: float = 0.0
    in_all: bool = False
    measured: bool = False
    meanwhile: bool = False

    def max_wait(
        self,
        draft_tokens: Sequence[DraftToken],
        expected_seconds: float | None,
        waited_seconds: float,
    ) -> float:
        """See Plan."""
        at_hand = self.meanwhile and not waited_seconds and len(draft_tokens) > 0
        if at_hand or len(draft_tokens) >= self.count:
            return 0.0
        waited = waited_seconds if self.in_all else 0.0
        longest = self.max_wait_seconds
        if self.measured and expected_seconds is not None:
            longest = min(longest, max(LATE_SECONDS, LATE * expected_seconds))
        return max(0.0, longest - waited)


@value(frozen=True, slots=True)
class WaitWhileWorth:
    """Wait while one more draft token is worth more than the wait for it, up to `at_most`.

    second_cost: what a second of waiting costs, in tokens. max_wait_seconds: bound of the wait for
    one draft token. hit_rate: how often there is a first draft token at all.
    """

    worth: Worth
    at_most: int
    second_cost: float
    max_wait_seconds: float
    hit_rate: float = 1.0
    count: ClassVar[None] = None  # each draft token may end the wait
    meanwhile: ClassVar[bool] = False

    def max_wait(
        self,
        draft_tokens: Sequence[DraftToken],
        expected_seconds: float | None,
        waited_seconds: float,
    ) -> float:
        """See Plan. A draft token that takes much longer than expected is not waited for.

        The wait is paid in any case, the verification only where there is a draft token.
        """
        if len(draft_tokens) >= self.at_most:
            return 0.0
        hit_rate = 1.0 if draft_tokens else self.hit_rate
        cost = self.second_cost * (expected_seconds or 0.0)
        if hit_rate * self.worth.one_more(draft_tokens) <= cost:
            return 0.0
        if expected_seconds is None:
            return self.max_wait_seconds
        return min(self.max_wait_seconds, LATE * expected_seconds + 0.002)


NO_WAIT = WaitForCount()


@value(frozen=True, slots=True)
class Plan:
    """What to take from the draft before the next step of the target.

    at_most: draft tokens to verify. waiting: which are waited for. worth: of draft tokens, where
    only those are verified that are worth it. lookahead: how many draft tokens the draft may be
    ahead, where it does not share its cores with the target. ngram_lookahead: the same for prompt
    lookup, which takes no cores. branches: how many the draft may work on, beside its draft tokens.
    continue_steps: decode steps to ask of the target beyond the next one, should nothing be
    proposed, or until something is.
    """

    at_most: int
    waiting: WaitForCount | WaitWhileWorth = NO_WAIT
    worth: Worth | None = None
    lookahead: int = 0
    ngram_lookahead: int = 0
    branches: int = 0
    continue_steps: int = 0

    @property
    def asks_nothing(self) -> bool:
        """Whether nothing is wanted of the draft."""
        return not (self.at_most or self.lookahead or self.ngram_lookahead or self.enough)

    @property
    def enough(self) -> int | None:
        """How many draft tokens end a wait; None: each may."""
        return self.waiting.count

    @property
    def meanwhile(self) -> bool:
        """Whether the target decodes on while draft tokens are waited for."""
        return self.waiting.meanwhile

    def max_wait(
        self,
        draft_tokens: Sequence[DraftToken],
        expected_seconds: float | None,
        waited_seconds: float,
    ) -> float:
        """Seconds to wait for one more draft token; 0: step now.

        expected_seconds: until it comes; None while not known. waited_seconds: for those at hand.
        """
        return self.waiting.max_wait(draft_tokens, expected_seconds, waited_seconds)

    def length(self, draft_tokens: Sequence[DraftToken]) -> int:
        """How many of the draft tokens at hand to verify."""
        if self.worth is None:
            return min(self.at_most, len(draft_tokens))
        return self.worth.length(draft_tokens[: self.at_most])

    def branches_of(
        self, draft_tokens: Sequence[DraftToken], known: Sequence[KnownBranch]
    ) -> tuple[KnownBranch, ...]:
        """Which of the branches to verify beside these draft tokens."""
        return () if self.worth is None else self.worth.branches(draft_tokens, known)


@value(frozen=True, slots=True)
class DraftState:
    """What there is to plan with.

    ready: a draft is there and did not miss its last time. shares_cores: it shares its cores
    with the target, so that they take turns.
    opening_seconds: until its first draft token; 0 when that has come, None while not known.
    free: it only looks up, which takes next to no time. hit_rate: how often it has a draft token at
    all.
    """

    ready: bool
    shares_cores: bool = False
    opening_seconds: float | None = 0.0
    free: bool = False
    hit_rate: float = 1.0


def target_only_steps(remaining: int) -> int:
    """Steps to ask for beyond the next one, where nothing is proposed."""
    return min(TARGET_ONLY_STEPS, remaining) - 1
