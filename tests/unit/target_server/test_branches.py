"""Branches change how many steps an output takes, and nothing else."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.engine.interfaces import Rows, Span, SpanBranch, StepReport
from paceline.engine.sampling.matcher import Mask
from paceline.engine.torch.sampling.spans import picked_spans
from paceline.errors import PacelineError
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load, Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, TokenLogprobs, Verdict, Verify
from target_server.branches import fitting
from target_server.verification import Verification
from tests.strategies import sampling_params
from tests.table_model import TableRunner
from tests.unit.engine.torch.sampling.test_picks import assert_same_logprobs

VOCABULARY = 5
REPORT = StepReport(0.25, Load(sessions=1), None)


@dataclass(frozen=True)
class Fork:
    """A branch: how far behind the first wrong draft token, its tokens, what spoils its digest."""

    behind: int
    right: int
    wrong: list[int]
    spoilt: int


@dataclass(frozen=True)
class Round:
    """What is asked of a step: right draft tokens, wrong ones, branches; from some tokens back."""

    back: int
    right: int
    wrong: list[int]
    forks: list[Fork]


ids = st.integers(0, VOCABULARY - 1)
forks = st.builds(
    Fork,
    behind=st.sampled_from([0, 0, 0, 0, -1, 1, 4]),
    right=st.integers(0, 4),
    wrong=st.lists(ids, max_size=2),
    spoilt=st.sampled_from([0, 0, 0, 0, 1]),
)
rounds = st.builds(
    Round,
    back=st.sampled_from([0, 0, 0, 1, 2]),
    right=st.integers(0, 3),
    wrong=st.lists(ids, min_size=1, max_size=3),
    forks=st.lists(forks, min_size=1, max_size=4),
)
openings = st.builds(
    Opening,
    request_id=st.just("test"),
    prompt_token_ids=st.just((1, 2)),
    sampling=sampling_params(VOCABULARY) | st.just(SamplingParams(temperature=0)),
    seed=st.integers(0, 2**64 - 1),
    max_tokens=st.integers(4, 24),
    stop_token_ids=st.sampled_from([frozenset[int](), frozenset[int](), frozenset({0})]),
    logprobs=st.none() | st.integers(0, 2),
)


class NoneTwice:
    """A grammar: no token follows itself."""

    def __init__(self) -> None:
        self._tokens: list[int] = []

    def matcher(self) -> "NoneTwice":
        return NoneTwice()

    def append(self, token: int) -> None:
        self._tokens.append(token)

    def truncate(self, count: int) -> None:
        del self._tokens[count:]

    def expect(self, draft_tokens: tuple[int, ...]) -> None:
        pass

    def mask(self) -> Mask:
        mask = np.ones(VOCABULARY, np.bool_)
        mask[self._tokens[-1:]] = False
        return mask


class Stream:
    """A session, its model and its cache."""

    def __init__(self, opening: Opening, *, held: bool, picks: bool, block: int) -> None:
        self.opening, self._picks, self._block = opening, picks, block
        self._delivered: list[Verdict | PromptLogprobs | PacelineError] = []
        self.verification = Verification(
            opening, self._delivered.append, NoneTwice() if held else None, block, branches=True
        )
        self._runner = TableRunner(VOCABULARY, seed=3)
        self._cache = self._runner.new_cache()
        self.path = TokenPath(opening.prompt_token_ids)
        self.logprobs: list[TokenLogprobs] = []

    def step(self, verify: Verify) -> Verdict:
        self.verification.ask(verify)
        span = self.verification.plan(self._cache.length)
        assert span is not None
        assert span.wanted_rows <= self._block
        assert span.end < self.opening.max_length
        rows = self._rows(span)
        self.verification.commit(span, rows, replace(REPORT, take_branch=self._cache.take_branch))
        verdict = self._delivered.pop()
        assert isinstance(verdict, Verdict)
        self.path.extend(verdict.token_ids)
        self.logprobs += verdict.logprobs
        kept = self.verification.kept(self._cache.length)
        assert kept == self._cache.tokens[: len(kept)]
        check(verdict, span)
        return verdict

    def _rows(self, span: Span) -> Rows:
        [logits] = self._runner.forward([(self._cache, span)])
        return picked_spans(torch.from_numpy(logits), [span])[0] if self._picks else logits


def check(verdict: Verdict, span: Span) -> None:
    """The branch whose first token was decided is followed as far as it is right."""
    rest = verdict.token_ids[verdict.accepted :]
    fork = verdict.position + verdict.accepted
    assert verdict.branch_verified == sum(len(one.token_ids) for one in span.branches)
    found = [
        one.token_ids
        for one in span.branches
        if one.position == fork and one.token_ids[:1] == rest[:1]
    ]
    branch = found[0] if found else ()
    pairs = zip(rest, branch, strict=False)
    common = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    assert verdict.branch_accepted == common
    assert len(rest) - common in (0, 1)


def asked(stream: Stream, truth: tuple[int, ...], round_: Round) -> Verify:
    """The Verify of a round."""
    prompt = stream.opening.prompt_token_ids
    start = max(0, len(stream.path) - len(prompt) - round_.back)
    known = (*prompt, *truth[:start])
    right = truth[start : start + round_.right]
    run = (*right, *round_.wrong)

    def proposal(at: int, tokens: tuple[int, ...], spoilt: int = 0) -> Proposal:
        path = TokenPath((*known, *run[:at]))
        return Proposal(len(path), path.digest ^ spoilt, tokens)

    branches = []
    for fork in round_.forks:
        at = max(0, len(right) + fork.behind)
        tokens = (*truth[start + at : start + at + fork.right], *fork.wrong)
        branches.append(proposal(at, tokens, fork.spoilt))
    return Verify(proposal(0, run), 0, tuple(branches))


@settings(max_examples=300)
@given(
    openings,
    st.lists(rounds, min_size=1, max_size=12),
    st.booleans(),
    st.booleans(),
    st.sampled_from([3, 8, sys.maxsize]),
)
def test_outputs_are_the_same_with_branches(
    opening: Opening, asked_for: list[Round], held: bool, picks: bool, block: int
) -> None:
    plain = Stream(opening, held=held, picks=False, block=block)
    while not plain.verification.finished:
        plain.step(Verify())
    truth = tuple(plain.path.tokens[len(opening.prompt_token_ids) :])
    branched = Stream(opening, held=held, picks=picks, block=block)
    todo: Iterator[Round] = iter(asked_for)
    while not branched.verification.finished:
        round_ = next(todo, None)
        branched.step(Verify() if round_ is None else asked(branched, truth, round_))
        known = len(branched.path)
        assert branched.path.tokens == plain.path.tokens[:known]
    assert len(branched.path) == len(plain.path)
    for one, other in zip(branched.logprobs, plain.logprobs, strict=True):
        assert_same_logprobs(one, other)


def branch(path: TokenPath, tokens: tuple[int, ...], digest: int | None = None) -> Proposal:
    return Proposal(len(path), path.digest if digest is None else digest, tokens)


def test_only_branches_of_the_draft_tokens_fit() -> None:
    path, drafts = TokenPath((7, 8)), (1, 2, 3)
    at = [TokenPath((7, 8, *drafts[:count])) for count in range(4)]
    given_branches = [
        branch(at[0], (5, 6)),
        branch(at[0], (5, 9, 9)),  # its first token is there
        branch(at[0], (1, 6)),  # the draft token itself
        branch(at[1], (4,), digest=1),
        branch(at[1], ()),
        branch(at[3], (4,)),  # behind the draft tokens
        Proposal(1, TokenPath((7,)).digest, (9,)),  # before them
        branch(at[2], (1, 2, 3, 4)),
        branch(at[1], (1, 2, 3, 4)),
        branch(at[0], (6,)),
    ]
    assert fitting(path, drafts, given_branches, end=7, rows=8) == (
        SpanBranch(2, (5, 6)),
        SpanBranch(4, (1, 2, 3)),  # up to the end
        SpanBranch(3, (1, 2, 3)),  # as many as there are rows
    )
    assert fitting(path, (), given_branches, end=7, rows=8) == ()
    assert fitting(path, drafts, given_branches, end=7, rows=0) == ()


def test_an_engine_without_branches_gets_none() -> None:
    opening = Opening("test", (7,), SamplingParams(temperature=0), 0, 9)
    path = TokenPath((7,))
    verify = Verify(branch(path, (1, 2)), 0, (branch(path, (3,)),))
    for computes, count in ((True, 1), (False, 0)):
        verification = Verification(opening, lambda _: None, branches=computes)
        verification.ask(verify)
        span = verification.plan(0)
        assert span is not None
        assert len(span.branches) == count
