"""Branches: a path with draft tokens and what else could come, and both ends of a wire in step."""

import random
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from draft_server.branched_path import MAX_TOKENS, BranchedPath, BranchEnd
from draft_server.run_ahead import RunAhead
from orchestrator.speculation.drafting.draft_buffer import ProposalBuffer, ReceivedTokens
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import DraftToken, Proposal, joined
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath

VOCABULARY = 3
PROMPT = (1, 2)
MAX_LENGTH = 40
STOP = frozenset({0})

tokens = st.integers(0, VOCABULARY - 1)
drafted = st.builds(DraftToken, tokens, st.floats(0, 4), second=st.none() | tokens)


def path_with(*draft_tokens: DraftToken) -> BranchedPath:
    path = BranchedPath(PROMPT, MAX_LENGTH, STOP)
    path.append(draft_tokens)
    return path


def grown(path: BranchedPath, end: BranchEnd, *following: tuple[int, float]) -> BranchEnd:
    for token, confidence in following:
        assert path.grow(end, DraftToken(token, confidence)) is not None
        end = end.behind(token)
    return end


def test_the_least_sure_position_comes_first_and_a_doubtful_branch_gives_way() -> None:
    path = path_with(
        DraftToken(1, 2.0, second=2), DraftToken(1, 0.1, second=2), DraftToken(1, 1.0, second=2)
    )
    assert [end.branch_point for end in path.likeliest_branches(9)] == [3, 4, 2]
    [first] = path.likeliest_branches(1)
    grown(path, first, (1, 0.0), (2, 0.0), (1, 0.0))
    assert [end.branch_point for end in path.likeliest_branches(9)] == [4, 2, 3]
    assert path.likeliest_branches(0) == []


def test_the_path_goes_on_behind_the_branch_that_was_picked_and_no_other() -> None:
    for recovered, ahead in ((2, [1, 2, 1]), (0, [])):
        path = path_with(
            DraftToken(1, 2.0, second=2), DraftToken(1, 0.1, second=2), DraftToken(1, 1.0, second=2)
        )
        end = grown(path, path.likeliest_branches(1)[0], (1, 1.0), (2, 1.0), (1, 1.0))
        assert path.commit((1, recovered)) == 3
        assert path.draft_tokens == ahead
        assert not path.holds(end)
        expected = TokenPath((*PROMPT, 1, recovered, *ahead)).digest
        assert path.digest == expected


def test_committed_tokens_may_go_beyond_the_branch_point_along_the_branch() -> None:
    for beyond, ahead in (((1,), [2]), ((1, 2), []), ((1, 2, 1), []), ((2,), [])):
        path = path_with(DraftToken(1, 0.1, second=2), DraftToken(1, 1.0))
        grown(path, path.likeliest_branches(1)[0], (1, 1.0), (2, 1.0))
        path.commit((2, *beyond))
        assert path.draft_tokens == ahead


def test_a_branch_ends_at_a_stop_token_and_before_the_last_token_of_the_output() -> None:
    assert path_with(DraftToken(1, 0.1, second=0)).likeliest_branches(9) == []
    path = BranchedPath(PROMPT, len(PROMPT) + 3)
    path.append([DraftToken(1, 0.1, second=2), DraftToken(1, 0.1, second=2)])
    [end] = path.likeliest_branches(9)
    assert end.branch_point == len(PROMPT)
    grown(path, end, (1, 1.0))
    assert path.likeliest_branches(9) == []


def test_all_branches_together_are_bounded() -> None:
    path = BranchedPath(PROMPT)
    path.append([DraftToken(1, 0.1, second=2)] * 8)
    count = 0
    while ends := path.likeliest_branches(4):
        for end in ends:
            grown(path, end, (1, 1.0))
            count += 1
    assert count == MAX_TOKENS


def test_a_path_whose_branches_are_never_taken_makes_no_more() -> None:
    for recovered, is_over in ((0, True), (2, False)):
        path = BranchedPath(PROMPT)
        for _ in range(40):
            path.append([DraftToken(1, 0.1, second=2)])
            for end in path.likeliest_branches(1):
                grown(path, end, (1, 0.0))
            path.commit((recovered,))
            path.commit(tuple(path.draft_tokens))
        path.append([DraftToken(1, 0.1, second=2)])
        assert (path.likeliest_branches(1) == []) is is_over


@given(st.lists(drafted, max_size=8), st.lists(tokens, max_size=10).map(tuple), st.data())
def test_ends_of_branches_are_what_their_digest_says(
    draft_tokens: list[DraftToken], committed: tuple[int, ...], data: st.DataObject
) -> None:
    path = path_with(*draft_tokens)
    for _ in range(data.draw(st.integers(0, 6))):
        for end in path.likeliest_branches(2):
            assert TokenPath(path.tokens_to(end)).digest == end.digest
            assert path.tokens_to(end)[: end.branch_point] == path.tokens[: end.branch_point]
            path.grow(end, data.draw(drafted))
    path.commit(committed)
    assert path.tokens[: path.committed] == [*PROMPT, *committed]
    assert path.proposal(path.committed).token_ids == tuple(path.draft_tokens)
    for end in path.likeliest_branches(9):
        assert end.branch_point >= path.committed


def test_proposals_of_several_paths_are_joined_each_with_its_own() -> None:
    path = path_with(DraftToken(1, 0.1, second=2))
    sent = [path.proposal(2)]
    end = path.likeliest_branches(1)[0]
    for token in (1, 2):
        path.append([DraftToken(token, 0.5)])
        sent.append(path.proposal(len(path) - 1))
        branch = path.grow(end, DraftToken(token, 0.25))
        assert branch is not None
        sent.append(branch)
        end = end.behind(token)
    base = TokenPath(PROMPT).digest
    assert joined(sent) == [
        Proposal(2, base, (1, 1, 2), (0.1, 0.5, 0.5), second_token_ids=(2, 1, 2)),
        Proposal(2, base, (2, 1, 2), (0.0, 0.25, 0.25)),
    ]
    empty = Proposal(5, path.digest, ())
    after = Proposal(5, path.digest, (1,), (0.0,))
    assert joined([sent[0], empty, after]) == [sent[0], empty, after]


class Wire:
    """A draft's session and the orchestrator's buffer, with messages under way both ways."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.draft = RunAhead(Opening("test", PROMPT, SamplingParams(), 0, 1000))
        self.buffer = ProposalBuffer(PROMPT, VOCABULARY)
        self.committed = TokenPath(PROMPT)
        self.proposals: deque[tuple[Proposal, bool]] = deque()
        self.advances: deque[Advance] = deque()
        self.received = ReceivedTokens()
        self.made = self.counted = 0
        self.decide(())
        self.hear()

    def next_token(self) -> DraftToken:
        token = self.rng.randrange(2)
        return DraftToken(token, self.rng.uniform(0, 3), second=1 - token)

    def draft_one(self) -> None:
        if self.draft.wanted > 0:
            self.made += 1
            self.proposals.append((self.draft.propose((self.next_token(),)), False))

    def grow(self) -> None:
        first = self.draft.branch_to_grow((), None)
        end = (
            self.draft.branch_to_grow((first,), None)
            if first and self.rng.random() < 0.3
            else first
        )
        if end is not None and (proposal := self.draft.grow(end, self.next_token())):
            self.made += len(proposal.token_ids)
            self.proposals.append((proposal, True))

    def receive(self) -> None:
        """A branch may be refused, as by a buffer that has no room for more."""
        if self.proposals:
            proposal, is_branch = self.proposals.popleft()
            self.counted += self.received.add(proposal)
            if not is_branch or self.rng.random() < 0.8:
                self.buffer.add(proposal)

    def commit(self) -> None:
        """Some of the draft tokens, and a token of the target's own."""
        offered = self.buffer.offer(self.rng.randrange(3)).token_ids
        self.decide((*offered, self.rng.randrange(2)))

    def decide(self, decided: tuple[int, ...]) -> None:
        self.advances.append(Advance(len(self.committed), decided, 9, 9, branches=2))
        self.committed.extend(decided)
        self.buffer.commit(decided)
        self.check()

    def hear(self) -> None:
        if self.advances:
            self.draft.post(self.advances.popleft())
            self.draft.catch_up()
            if taken := self.draft.taken_branch():
                self.proposals.append((taken, False))

    def check(self) -> None:
        offered = self.buffer.offer(99)
        assert offered.position == len(self.committed)
        assert offered.base_digest == self.committed.digest
        assert len(offered.token_ids) == len(self.buffer) == len(self.buffer.draft_tokens)

    def settle(self) -> None:
        """All messages arrive; both ends then have the same draft tokens."""
        while self.advances:
            self.hear()
        while self.proposals:
            self.receive()
        self.check()
        assert self.counted == self.made
        ahead = self.draft.tokens[self.draft.committed_length :]
        assert self.buffer.offer(99).token_ids == tuple(ahead)


@given(st.integers(0, 2**32))
def test_both_ends_of_the_wire_agree_whatever_is_under_way(seed: int) -> None:
    rng = random.Random(seed)
    wire = Wire(rng)
    steps = [wire.draft_one, wire.grow, wire.receive, wire.commit, wire.hear, wire.settle]
    for step in rng.choices(steps, [6, 4, 8, 2, 3, 1], k=200):
        step()
    wire.settle()


def test_both_ends_take_branches() -> None:
    wire = Wire(random.Random(1))
    for _ in range(100):
        for step in (
            wire.draft_one,
            wire.draft_one,
            wire.grow,
            wire.grow,
            wire.settle,
            wire.commit,
        ):
            step()
        wire.settle()
    assert wire.draft.branches_taken > 10
    assert wire.buffer.taken > 10
