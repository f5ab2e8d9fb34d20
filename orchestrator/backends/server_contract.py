"""What servers may say, by what they were asked: checked before it is used. Pure.

A check costs no more than a look at lengths and at each number once. What an honest server can
say is never refused, however late it comes.
"""

import math
from collections.abc import Iterable, Sequence

from orchestrator.speculation.drafting.draft_buffer import MAX_BRANCH_TOKENS
from paceline.errors import Internal
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import CostModel, Opened, Opening
from paceline.protocol.verdict import PromptLogprobs, Verdict, Verify

_SLACK = MAX_BRANCH_TOKENS
"""Draft tokens beyond the lookahead: branches, and what follows a branch that was taken."""
_PER_ADVANCE = 2 * MAX_BRANCH_TOKENS
"""Draft tokens that an Advance may bring beside its lookahead."""
MOST_PENDING = 16384
"""Draft tokens that may ever be on their way. Far fewer come while an event loop stands still."""
MOST_STRAYS = 64
"""Proposals in a row that follow nothing the draft was told or has said."""
_NOTES = 64
_NOTES_PER_SECOND = 4.0
"""Signs of life that a server may give. It owes one each second without an answer."""


class BrokenContract(Internal):
    """A server said what it was not asked for, or what cannot be."""


def _hold(holds: bool, what: str) -> None:
    """For what is seldom checked: what is made for each verdict makes words only where it fails."""
    if not holds:
        raise BrokenContract(what)


def _are_amounts(values: Sequence[float]) -> bool:
    """Whether none is negative or infinite, nor NaN, which no sum of others makes finite."""
    return min(values, default=0.0) >= 0.0 and sum(values) < math.inf


def _seconds_of(cost: CostModel | None) -> tuple[float, ...]:
    return () if cost is None else (cost.step_seconds, cost.token_seconds, cost.branch_seconds)


class DraftContract:
    """What a draft may propose in one session."""

    def __init__(self, opening: Opening, vocabulary_size: int) -> None:
        """Nothing is granted yet. vocabulary_size: of the target."""
        self._vocabulary_size = vocabulary_size
        self._begin = len(opening.prompt_token_ids) + len(opening.output_token_ids)
        self._end = self._begin
        self._pending = 0
        self._strays = 0

    def grant(self, advance: Advance) -> None:
        """The draft is told this."""
        lookahead = max(advance.lookahead, advance.ngram_lookahead)
        end = advance.position + len(advance.token_ids) + lookahead + _SLACK
        self._end = max(self._end, end)
        self._pending = min(MOST_PENDING, self._pending + lookahead + _PER_ADVANCE)

    def check_message(self, sizes: Iterable[tuple[int, int, int, int]]) -> None:
        """By position, tokens, confidences and second-best tokens, before they are read."""
        for position, tokens, confidences, seconds in sizes:
            self._pending -= tokens or 1
            if self._pending < 0:
                raise BrokenContract("it proposes more than it was granted")
            if confidences > tokens:
                raise BrokenContract(f"{confidences} confidences came for {tokens} tokens")
            if seconds not in {0, tokens}:
                raise BrokenContract(f"{seconds} second-best tokens came for {tokens} tokens")
            if position < self._begin or position + tokens > self._end:
                what = f"it proposes for {position}, which is not between start and lookahead"
                raise BrokenContract(what)

    def check(self, proposal: Proposal) -> None:
        """Its values."""
        ids = proposal.token_ids + proposal.second_token_ids
        if max(ids, default=-1) >= self._vocabulary_size:
            raise BrokenContract("it proposes ids beyond the target's vocabulary")
        if not _are_amounts(proposal.confidences):
            raise BrokenContract("a confidence is no number of 0 or more")

    def note_base(self, *, known: bool) -> None:
        """Whether a proposal follows what the draft was told, or has said before."""
        self._strays = 0 if known else self._strays + 1
        _hold(self._strays <= MOST_STRAYS, "its proposals follow a path of its own")


class TargetContract:
    """What a target may answer in one session."""

    def __init__(self, opening: Opening, vocabulary_size: int) -> None:
        """Nothing is asked yet."""
        self._opening = opening
        self._vocabulary_size = vocabulary_size
        self._length = len(opening.prompt_token_ids) + len(opening.output_token_ids)
        self._owed = 0
        self._proposed = self._proposed_beside = 0
        self._prompt_logprobs = 1  # where the next piece begins

    def check_opened(self, opened: Opened) -> None:
        """Whether it is the model that was asked for."""
        wanted = self._opening.fingerprint
        _hold(not wanted or opened.fingerprint == wanted, "it opened another fingerprint")

    def ask(self, verify: Verify) -> None:
        """The target is asked this."""
        self._owed += 1 + verify.continue_steps
        if verify.proposal is not None:
            self._proposed = max(self._proposed, len(verify.proposal.token_ids))
        beside = sum(len(branch.token_ids) for branch in verify.branches)
        self._proposed_beside = max(self._proposed_beside, beside)

    def check_sizes(
        self,
        tokens: int,
        verified: int,
        accepted: int,
        logprobs: int,
        branches: tuple[int, int] = (0, 0),
    ) -> None:
        """Of a verdict, before it is read. branches: tokens of them verified, and accepted."""
        self._owed -= 1
        if self._owed < 0:
            raise BrokenContract("it decides more steps than it was asked for")
        if verified > self._proposed:
            most = f"{self._proposed} were proposed"
            raise BrokenContract(f"it verified {verified} draft tokens; {most}")
        if accepted > verified:
            raise BrokenContract(f"it accepted {accepted} draft tokens of {verified}")
        drafted = accepted + self._accepted_beside(verified, accepted, branches)
        if not max(1, drafted) <= tokens <= drafted + 1:
            raise BrokenContract(f"it decided {tokens} tokens, {drafted} of the draft")
        wanted = tokens if self._opening.logprobs is not None else 0
        if logprobs != wanted:
            raise BrokenContract(f"{logprobs} logprobs came for {wanted} tokens")

    def _accepted_beside(self, verified: int, accepted: int, branches: tuple[int, int]) -> int:
        """Tokens of a branch, which begins where a draft token is rejected."""
        of_branches, taken = branches
        if of_branches > self._proposed_beside:
            most = f"{self._proposed_beside} were proposed"
            raise BrokenContract(f"it verified {of_branches} tokens of branches; {most}")
        if taken > of_branches or (taken and accepted == verified):
            raise BrokenContract(f"it accepted {taken} tokens of branches of {of_branches}")
        return taken

    def check(self, verdict: Verdict) -> None:
        """Its values; what comes next follows it."""
        at, cost = verdict.position, verdict.cost_model
        if at != self._length:
            raise BrokenContract(f"it decided position {at}; the next one is {self._length}")
        self._length += len(verdict.token_ids)
        if self._length > self._opening.max_length:
            raise BrokenContract("it decided more tokens than max_tokens")
        self._check_ids(verdict.token_ids)
        if verdict.cached_tokens > len(self._opening.prompt_token_ids):
            raise BrokenContract("more tokens are cached than the prompt has")
        times = (verdict.step_seconds, verdict.sampling_seconds, verdict.queue_seconds)
        if not _are_amounts(times + _seconds_of(cost)):
            raise BrokenContract("a time or a cost is no number of 0 or more")
        for one in verdict.logprobs:
            self._check_top(len(one.top), self._opening.logprobs or 0)
            self._check_ids([best.token_id for best in one.top])

    def check_prompt_logprobs(self, piece: PromptLogprobs) -> None:
        """Whether they are asked for, and the next ones."""
        _hold(
            self._opening.prompt_logprobs is not None, "logprobs of the prompt were not asked for"
        )
        _hold(
            piece.position == self._prompt_logprobs and bool(piece.tokens),
            "logprobs of the prompt do not follow each other",
        )
        self._prompt_logprobs += len(piece.tokens)
        fits = self._prompt_logprobs <= len(self._opening.prompt_token_ids)
        _hold(fits, "more logprobs came than the prompt has tokens")
        for one in piece.tokens:
            self._check_top(len(one.top), self._opening.prompt_logprobs or 0)
            self._check_ids([best.token_id for best in one.top])

    def _check_ids(self, ids: Iterable[int]) -> None:
        if max(ids, default=-1) >= self._vocabulary_size:
            raise BrokenContract("it names ids beyond its vocabulary")

    def _check_top(self, count: int, asked: int) -> None:
        _hold(count <= asked, f"{count} best tokens came, and {asked} were asked for")


class SignsOfLife:
    """Whether a server gives more of them than one that has nothing else to say."""

    def __init__(self, since: float) -> None:
        """since: when the session began."""
        self._since = since
        self._notes = 0

    def note(self, now: float) -> None:
        """One more."""
        self._notes += 1
        most = _NOTES + _NOTES_PER_SECOND * (now - self._since)
        _hold(self._notes <= most, f"{self._notes} signs of life came and nothing else")
