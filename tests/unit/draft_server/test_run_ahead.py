"""Running ahead: drafts lie behind the committed tokens, within the lookahead, from a right KV."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from draft_server.advances import MOST_WAITING
from draft_server.drafters.hybrid import HybridDrafter
from draft_server.drafters.model import ModelDrafter
from draft_server.prompt_lookup import RecentOutputs
from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import Span, StepReport
from paceline.errors import InvalidArgument, PacelineError, ResourceExhausted
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load, Opening
from paceline.protocol.token_path import TokenPath
from tests.strategies import sampling_params
from tests.table_model import TableRunner, TokenCache, decode_alone
from tests.unit.draft_server.stepped_engine import context

VOCABULARY = 4
REPORT = StepReport(0.0, Load(), None)


class DraftMachine(RuleBasedStateMachine):
    """Committed tokens that agree and diverge, between steps and in the middle of one."""

    @initialize(
        sampling=sampling_params(VOCABULARY),
        max_tokens=st.integers(2, 20),
        stop=st.sampled_from([frozenset[int](), frozenset({0})]),
    )
    def open(self, sampling: SamplingParams, max_tokens: int, stop: frozenset[int]) -> None:
        self.opening = Opening("test", (1, 2), sampling, 7, max_tokens, stop_token_ids=stop)
        self.runner = TableRunner(VOCABULARY)
        self.proposals: list[Proposal | PacelineError] = []
        self.drafter = self.make()
        self.cache = TokenCache()
        self.committed = [1, 2]
        self.draft_tokens: list[int] = []
        self.lookahead = 0

    def make(self) -> ModelDrafter:
        return ModelDrafter(context(self.opening, self.proposals.append))

    def plan(self) -> Span | None:
        span = self.drafter.plan(self.cache.length)
        self.take_looked_up()
        return span

    def take_looked_up(self) -> None:
        assert not self.proposals, "a model drafts only after a step"

    def send(self, tokens: tuple[int, ...], lookahead: int) -> None:
        room = self.opening.max_length - 1 - len(self.committed)
        tokens = tokens[: max(room, 0)]
        self.drafter.advance(Advance(len(self.committed), tokens, lookahead))
        agreed = tuple(self.draft_tokens[: len(tokens)]) == tokens[: len(self.draft_tokens)]
        self.committed += tokens
        self.draft_tokens = self.draft_tokens[len(tokens) :] if agreed else []
        self.lookahead = lookahead

    @rule(count=st.integers(0, 4), lookahead=st.integers(0, 6))
    def advance_along_the_draft_tokens(self, count: int, lookahead: int) -> None:
        self.send(tuple(self.draft_tokens[:count]), lookahead)

    @rule(
        tokens=st.lists(st.integers(0, VOCABULARY - 1), max_size=3).map(tuple),
        lookahead=st.integers(0, 6),
    )
    def advance(self, tokens: tuple[int, ...], lookahead: int) -> None:
        self.send(tokens, lookahead)

    @rule(chunk=st.integers(1, 4))
    def run_a_piece(self, chunk: int) -> None:
        span = self.plan()
        if span is not None:
            self.cache.truncate(span.position)
            if chunk < len(span.token_ids):
                self.runner.forward([(self.cache, span.head(chunk))])

    @rule()
    def step(self) -> None:
        self.run_one_step(None)

    @rule(tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=2).map(tuple))
    def step_while_committing(self, tokens: tuple[int, ...]) -> None:
        self.run_one_step(tokens)

    def run_one_step(self, meanwhile: tuple[int, ...] | None) -> None:
        span = self.plan()
        ahead = self.committed + self.draft_tokens
        room = self.opening.max_length - 1 - len(self.committed)
        stopped = len(ahead) > 2 and ahead[-1] in self.opening.stop_token_ids
        wanted = len(self.draft_tokens) < min(self.lookahead, room) and not stopped
        assert (span is not None) == wanted
        if span is None:
            return
        [logits] = self.runner.forward([(self.cache, span)])
        assert self.cache.tokens == ahead
        if meanwhile is not None:
            self.send(meanwhile, self.lookahead)
        self.drafter.commit(span, logits, REPORT)
        if self.committed + self.draft_tokens != ahead:
            assert not self.proposals  # what it would have drafted no longer follows the path
            return
        [proposal] = self.proposals
        assert isinstance(proposal, Proposal)
        assert proposal.position == len(ahead)
        assert proposal.base_digest == TokenPath(ahead).digest
        output = tuple(ahead[2:])
        alone = Opening(
            "test",
            (1, 2),
            self.opening.sampling,
            7,
            len(output) + 1,
            output,
            self.opening.stop_token_ids,
        )
        assert proposal.token_ids == decode_alone(self.runner, alone)[-1:]
        assert len(proposal.confidences) == 1
        self.draft_tokens += proposal.token_ids
        self.proposals.clear()


TestRunningAhead = DraftMachine.TestCase


class HybridMachine(DraftMachine):
    """The same, with lookup before each step: the least match is 2 so that it finds much."""

    def make(self) -> ModelDrafter:
        recent = RecentOutputs()
        recent.add("", OTHER)
        return EagerHybrid(context(self.opening, self.proposals.append, recent=recent))

    def take_looked_up(self) -> None:
        for proposal in self.proposals:
            assert isinstance(proposal, Proposal)
            ahead = self.committed + self.draft_tokens
            assert proposal.position == len(ahead)
            assert proposal.base_digest == TokenPath(ahead).digest
            assert proposal.drafter is Drafter.NGRAM
            assert proposal.token_ids
            assert not set(proposal.token_ids[:-1]) & self.opening.stop_token_ids
            length = int(proposal.confidences[0])
            run = (*ahead[-length:], *proposal.token_ids)
            known = [self.committed, list(OTHER)]
            assert any(contains(tokens, run) for tokens in known)
            self.draft_tokens += proposal.token_ids
        self.proposals.clear()


class EagerHybrid(HybridDrafter):
    least_match = 2


OTHER = (3, 3, 1, 2, 0, 1, 3, 2)


def contains(tokens: list[int], run: tuple[int, ...]) -> bool:
    return any(tuple(tokens[start : start + len(run)]) == run for start in range(len(tokens)))


TestRunningAheadWithLookup = HybridMachine.TestCase


def test_an_advance_that_leaves_a_gap_is_refused_and_names_the_limit() -> None:
    ahead = RunAhead(Opening("test", (1, 2), SamplingParams(), 0, 8))
    ahead.post(Advance(2, (3,), 4))
    with pytest.raises(InvalidArgument, match=r"advance\.position is 5; it must be 3"):
        ahead.post(Advance(5, (), 4))


def test_advances_that_nobody_takes_are_bounded_and_taking_them_makes_room() -> None:
    ahead = RunAhead(Opening("test", (1, 2), SamplingParams(), 7, 10))
    for _ in range(MOST_WAITING):
        ahead.post(Advance(2, (), 1))
    with pytest.raises(ResourceExhausted, match=str(MOST_WAITING)):
        ahead.post(Advance(2, (), 1))
    ahead.apply()
    ahead.post(Advance(2, (), 1))
