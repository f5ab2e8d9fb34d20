"""Which proposals lie on the committed tokens: a state machine against plain lists."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orchestrator.speculation.drafting.draft_buffer import ProposalBuffer
from paceline.protocol.draft_path import DraftPath
from paceline.protocol.proposal import Proposal
from paceline.protocol.token_path import TokenPath

VOCABULARY = 3
tokens = st.integers(0, VOCABULARY - 1)
runs = st.lists(tokens, max_size=4).map(tuple)


class ProposalMachine(RuleBasedStateMachine):
    """Proposals on the path, stale, ahead of it or made up, against what plain lists say."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[int] = [0]
        self.draft_tokens: list[int] = []
        self.buffer = ProposalBuffer((0,), VOCABULARY)
        self.path = TokenPath([0])
        self.ahead = DraftPath((0,))
        self.pasts: list[tuple[int, ...]] = [()]

    def proposal_after(self, past: list[int], run: tuple[int, ...]) -> Proposal:
        return Proposal(len(past), TokenPath(past).digest, run, (0.5,) * len(run))

    def expected(self, past: list[int], run: tuple[int, ...], path: list[int]) -> tuple[int, ...]:
        """What of `run`, made after `past`, goes on from the end of `path`."""
        whole = past + list(run)
        follows = path[: len(past)] == past and path[: len(whole)] == whole[: len(path)]
        return tuple(whole[len(path) :]) if follows else ()

    @rule(length=st.integers(0, 12), run=runs)
    def propose_from_somewhere_on_the_path(self, length: int, run: tuple[int, ...]) -> None:
        self.take((self.committed + self.draft_tokens)[:length], run)

    @rule(past=st.lists(tokens, max_size=6), run=runs)
    def propose_from_elsewhere(self, past: list[int], run: tuple[int, ...]) -> None:
        self.take(past, run)

    def is_a_branch(self, past: list[int], run: tuple[int, ...]) -> bool:
        """Whether it leaves the draft tokens: the buffer keeps it, plain lists do not."""
        path, start = self.committed + self.draft_tokens, len(past)
        whole = past + list(run)
        begins = len(self.committed) <= start < len(path) and path[:start] == past
        return begins and path[: len(whole)] != whole[: len(path)]

    def take(self, past: list[int], run: tuple[int, ...]) -> None:
        if self.is_a_branch(past, run):
            return
        proposal = self.proposal_after(past, run)
        assert self.path.remainder(proposal) == self.expected(past, run, self.committed)
        added = self.expected(past, run, self.committed + self.draft_tokens)
        assert self.buffer.add(proposal) == len(added)
        self.ahead.extend(added)
        self.draft_tokens += added

    @rule(run=runs)
    def commit(self, run: tuple[int, ...]) -> None:
        agreed = tuple(self.draft_tokens[: len(run)]) == run[: len(self.draft_tokens)]
        self.buffer.commit(run)
        self.ahead.commit(run)
        self.path.extend(run)
        self.committed += run
        self.draft_tokens = self.draft_tokens[len(run) :] if agreed else []

    @rule(at_most=st.integers(0, 5))
    def offer(self, at_most: int) -> None:
        offer = self.buffer.offer(at_most)
        assert offer.token_ids == tuple(self.draft_tokens[:at_most])
        assert self.path.remainder(offer) == offer.token_ids
        assert len(offer.confidences) == len(offer.token_ids)

    @invariant()
    def all_agree_on_what_is_there(self) -> None:
        assert self.path.tokens == self.committed
        assert self.ahead.tokens == self.committed + self.draft_tokens
        assert self.ahead.draft_tokens == self.draft_tokens
        assert len(self.buffer) == len(self.draft_tokens)
        assert self.buffer.last == (self.draft_tokens[-1] if self.draft_tokens else None)


TestProposals = ProposalMachine.TestCase


def test_a_stale_proposal_that_agrees_by_luck_is_refused() -> None:
    """Same position, same tokens, another past: only the digest tells them apart."""
    path = TokenPath([1, 2, 3])
    assert path.remainder(Proposal(3, TokenPath([1, 2, 3]).digest, (4,))) == (4,)
    assert path.remainder(Proposal(3, TokenPath([2, 1, 3]).digest, (4,))) == ()


def test_ids_outside_the_vocabulary_are_never_offered() -> None:
    buffer = ProposalBuffer((0,), VOCABULARY)
    assert buffer.add(Proposal(1, TokenPath([0]).digest, (1, VOCABULARY))) == 0
    assert buffer.offer(4).token_ids == ()
