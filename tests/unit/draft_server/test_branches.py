"""Sessions for branches: they draft what the model would, beside the drafter's own."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from draft_server.drafters.branches import BranchDrafter
from draft_server.drafters.model import ModelDrafter
from draft_server.drafters.sampling import DraftSampler
from draft_server.run_ahead import TOKEN_SHARE
from paceline.engine.interfaces import Decoder, Span, StepReport
from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import pick_with_second
from paceline.errors import PacelineError
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import CostModel, Load, Opening
from paceline.protocol.token_path import TokenPath
from tests.strategies import sampling_params
from tests.table_model import TableRunner, TokenCache, decode_alone
from tests.unit.draft_server.stepped_engine import SteppedEngine, context

VOCABULARY = 4
PROMPT = (1, 2)
REPORT = StepReport(0.0, Load(), None)


class BranchesMachine(RuleBasedStateMachine):
    """A drafter and two sessions for branches share steps; the target picks what it will."""

    @initialize(
        sampling=sampling_params(VOCABULARY),
        max_tokens=st.integers(4, 24),
        stop=st.sampled_from([frozenset[int](), frozenset({0})]),
    )
    def open(self, sampling: SamplingParams, max_tokens: int, stop: frozenset[int]) -> None:
        self.opening = Opening("test", PROMPT, sampling, 7, max_tokens, stop_token_ids=stop)
        self.runner = TableRunner(VOCABULARY)
        self.delivered: list[Proposal] = []
        made_from, sampler = context(self.opening, self.deliver), DraftSampler(self.opening)
        drafter = ModelDrafter(made_from)
        peers: list[BranchDrafter] = []
        peers += [BranchDrafter(made_from, drafter.ahead, sampler, peers) for _ in range(2)]
        self.drafter = drafter
        decoders: list[Decoder] = [*peers, drafter]
        self.sessions = [(decoder, TokenCache()) for decoder in decoders]
        self.committed = list(PROMPT)
        self.known = {TokenPath(PROMPT).digest: list(PROMPT)}

    def deliver(self, item: Proposal | PacelineError) -> None:
        assert isinstance(item, Proposal)
        self.delivered.append(item)

    def send(self, tokens: tuple[int, ...], lookahead: int, branches: int) -> None:
        room = self.opening.max_length - 1 - len(self.committed)
        tokens = tokens[: max(room, 0)]
        position = len(self.committed)
        self.drafter.advance(Advance(position, tokens, lookahead, lookahead, branches=branches))
        self.committed += tokens

    @rule(
        count=st.integers(0, 3),
        other=st.booleans(),
        lookahead=st.integers(0, 6),
        branches=st.integers(0, 2),
    )
    def commit(self, count: int, other: bool, lookahead: int, branches: int) -> None:
        """Along the draft tokens, and then perhaps the second best token."""
        ahead = self.drafter.ahead
        ahead.apply()
        end = ahead.branch_to_grow((), None)
        draft_tokens = ahead.tokens[len(self.committed) :]
        if other and end:
            path = ahead.tokens_to(end)
            self.send(tuple(path[len(self.committed) :][: count + 1]), lookahead, branches)
        else:
            self.send(tuple(draft_tokens[:count]), lookahead, branches)

    @rule(tokens=st.lists(st.integers(0, VOCABULARY - 1), max_size=2).map(tuple))
    def commit_anything(self, tokens: tuple[int, ...]) -> None:
        self.send(tokens, 4, 2)

    @rule(chunk=st.integers(1, 3), meanwhile=st.booleans(), turned=st.booleans())
    def step(self, chunk: int, meanwhile: bool, turned: bool) -> None:
        """All that want something, in any order; a long span in pieces."""
        batch: list[tuple[Decoder, TokenCache, Span]] = []
        for decoder, cache in self.sessions[:: -1 if turned else 1]:
            span = decoder.plan(cache.length)
            if span is not None:
                cache.truncate(span.position)
                batch.append((decoder, cache, span))
        if meanwhile:
            self.send((1,), 4, 2)
        for decoder, cache, span in batch:
            if chunk < len(span.token_ids):
                self.runner.forward([(cache, span.head(chunk))])
            else:
                [logits] = self.runner.forward([(cache, span)])
                decoder.commit(span, logits, REPORT)

    @invariant()
    def what_is_delivered_is_what_the_model_would_draft(self) -> None:
        for proposal in self.delivered:
            base = self.find(proposal)
            if proposal.confidences[0] == 0.0 and self.is_second(base, proposal.token_ids[0]):
                base, rest = [*base, proposal.token_ids[0]], proposal.token_ids[1:]
            else:
                rest = proposal.token_ids
            for token in rest:
                assert token == self.drafted_behind(base)
                base = [*base, token]
            assert len(base) <= self.opening.max_length - 1
            assert len(proposal.confidences) == len(proposal.token_ids)
        self.delivered.clear()

    def find(self, proposal: Proposal) -> list[int]:
        """The tokens that a proposal follows: of the path, or of a branch seen before."""
        paths = [self.drafter.ahead.tokens, self.committed, *self.known.values()]
        for path in paths:
            if TokenPath(path[: proposal.position]).digest == proposal.base_digest:
                base = path[: proposal.position]
                whole = [*base, *proposal.token_ids]
                self.known[TokenPath(whole).digest] = whole
                return base
        raise AssertionError(f"{proposal} follows nothing known")

    def drafted_behind(self, base: list[int]) -> int:
        output = tuple(base[len(PROMPT) :])
        stop = self.opening.stop_token_ids
        alone = Opening("test", PROMPT, self.opening.sampling, 7, len(output) + 1, output, stop)
        return decode_alone(self.runner, alone)[-1]

    def is_second(self, base: list[int], token: int) -> bool:
        history = History(PROMPT, base[len(PROMPT) :])
        row, stop = self.runner.logits(base), self.opening.stop_token_ids
        return pick_with_second(row, self.opening.sampling, 7, history, stop)[2] == token


TestBranches = BranchesMachine.TestCase


def drafting(cost: CostModel | None) -> tuple[ModelDrafter, BranchDrafter, list[Proposal]]:
    delivered: list[Proposal] = []
    opening = Opening("test", PROMPT, SamplingParams(temperature=0.0), 0, 30)
    made_from = context(opening, delivered.append)
    drafter = ModelDrafter(made_from)
    branch = BranchDrafter(made_from, drafter.ahead, DraftSampler(opening), [])
    runner, caches = TableRunner(VOCABULARY), (TokenCache(), TokenCache())
    decoders: list[Decoder] = [drafter, branch]
    drafter.advance(Advance(2, (), 4, 4, branches=1))
    for _ in range(4):
        for decoder, cache in zip(decoders, caches, strict=True):
            if span := decoder.plan(cache.length):
                [logits] = runner.forward([(cache, span)])
                decoder.commit(span, logits, StepReport(0.0, Load(), cost))
    return drafter, branch, delivered


def test_the_drafter_goes_on_behind_a_branch_that_was_picked_and_sends_it_again() -> None:
    drafter, _, delivered = drafting(None)
    taken = next(one for one in delivered if one.confidences[0] == 0.0 and one.position > 2)
    before = drafter.ahead.tokens[2 : taken.position]
    delivered.clear()
    tokens = (*before, taken.token_ids[0])
    drafter.advance(Advance(2, tokens, 4, 4, branches=1))
    assert drafter.plan(0) is not None
    assert delivered[0].position == taken.position + 1
    assert delivered[0].token_ids[0] == taken.token_ids[1]
    assert drafter.ahead.branches_taken == 1


def test_where_tokens_cost_there_are_no_branches() -> None:
    for row, expected in ((0.9 * TOKEN_SHARE, True), (1.2 * TOKEN_SHARE, False)):
        drafter, *_ = drafting(CostModel(1.0, row))
        assert bool(drafter.ahead.branch_tokens) is expected


def test_sessions_are_opened_as_granted_while_half_of_all_kv_is_free_and_then_freed() -> None:
    engine = SteppedEngine(TableRunner(VOCABULARY), pages=4)
    opening = Opening("test", PROMPT, SamplingParams(temperature=0.0), 0, 30)
    drafter = ModelDrafter(context(opening, lambda _: None, engine))
    session = engine.open(drafter)
    drafter.advance(Advance(2, (), 4, 4, branches=2))
    assert len(engine.sessions) == 1, "the prompt is not in KV yet"
    engine.step()
    for granted, expected in ((1, 1), (2, 2), (3, 2)):
        drafter.advance(Advance(2, (), 4, 4, branches=granted))
        assert len(engine.sessions) == 1 + expected
    drafter.close()
    assert engine.sessions == [session]
