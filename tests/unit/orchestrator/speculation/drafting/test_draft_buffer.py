"""The buffer of draft tokens: what is offered follows the committed tokens, branches included."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speculation.drafting.draft_buffer import (
    MAX_BRANCH_TOKENS,
    REMEMBERED_TOKENS,
    ProposalBuffer,
    ReceivedTokens,
)
from paceline.protocol.proposal import Proposal
from paceline.protocol.token_path import TokenPath

VOCABULARY = 3
PROMPT = (1, 2)


def behind(tokens: tuple[int, ...], *draft_tokens: int) -> Proposal:
    return Proposal(len(tokens), TokenPath(tokens).digest, draft_tokens, (1.0,) * len(draft_tokens))


def buffer_with(*proposals: Proposal) -> ProposalBuffer:
    buffer = ProposalBuffer(PROMPT, VOCABULARY)
    for proposal in proposals:
        buffer.add(proposal)
    return buffer


def test_an_branch_is_ready_when_the_target_picks_its_first_token() -> None:
    main, first = behind(PROMPT, 0, 0, 0), behind((*PROMPT, 0), 1, 2)
    rest = behind((*PROMPT, 0, 1, 2), 2)
    for recovered, ready in ((1, (2, 2)), (2, ())):
        buffer = buffer_with(main, first, rest)
        assert buffer.offer(9).token_ids == (0, 0, 0)
        assert not buffer.commit((0, recovered))
        assert buffer.offer(9) == Proposal(
            4, TokenPath((*PROMPT, 0, recovered)).digest, ready, (1.0,) * len(ready)
        )
        assert buffer.taken == len(ready[:1])


def test_one_for_a_place_that_was_committed_is_dropped() -> None:
    buffer = buffer_with(behind(PROMPT, 0, 0, 0), behind(PROMPT, 1, 2))
    assert buffer.commit((0,))
    assert not buffer.commit((1,))
    assert len(buffer) == buffer.taken == 0


def test_one_that_comes_late_is_ready_at_once() -> None:
    buffer = buffer_with(behind(PROMPT, 0, 0))
    buffer.commit((1,))
    assert buffer.add(behind(PROMPT, 1, 2, 2)) == 2
    assert buffer.offer(9).token_ids == (2, 2)


def test_a_stale_or_strange_one_is_never_kept() -> None:
    main = behind(PROMPT, 0, 0, 0)
    stale = Proposal(3, TokenPath((*PROMPT, 2)).digest, (1, 2))
    wrong_vocabulary = behind((*PROMPT, 0), 1, VOCABULARY)
    buffer = buffer_with(main, stale, wrong_vocabulary)
    buffer.commit((0, 1))
    assert len(buffer) == 0


def test_what_is_kept_is_bounded() -> None:
    buffer = buffer_with(behind(PROMPT, 0))
    end: tuple[int, ...] = PROMPT
    for _ in range(2 * MAX_BRANCH_TOKENS):
        buffer.add(behind(end, 1))
        end = (*end, 1)
    buffer.commit((1,))
    assert len(buffer) == MAX_BRANCH_TOKENS - 1


def test_what_the_path_has_passed_makes_room() -> None:
    buffer = ProposalBuffer(PROMPT, VOCABULARY)
    path: tuple[int, ...] = PROMPT
    for _ in range(MAX_BRANCH_TOKENS):
        buffer.add(behind(path, 0, 0))
        buffer.add(behind(path, 1, 1))
        buffer.commit((0,))
        path = (*path, 0)
    buffer.add(behind(path, 1, 2))
    buffer.commit((1,))
    assert buffer.offer(9).token_ids == (2,)


def test_a_token_that_comes_again_is_new_only_once() -> None:
    received = ReceivedTokens()
    assert received.add(behind(PROMPT, 0, 0)) == 2
    assert received.add(behind(PROMPT, 1, 2)) == 2
    assert received.add(behind((*PROMPT, 1), 2, 0)) == 1
    assert received.add(behind((*PROMPT, 1, 2), 0)) == 0
    assert received.add(behind((*PROMPT, 1, 2, 0))) == 0


def test_what_is_remembered_of_received_tokens_is_bounded() -> None:
    received = ReceivedTokens()
    run = behind(PROMPT, *[1] * REMEMBERED_TOKENS)
    assert received.add(run) == REMEMBERED_TOKENS
    assert received.add(run) == 0
    assert received.add(behind(PROMPT, 2)) == 1
    assert received.add(run) == 1


tokens = st.lists(st.integers(0, VOCABULARY), min_size=1, max_size=4).map(tuple)
anything = st.builds(
    lambda run, draft_tokens: behind(PROMPT + run[:-1], *draft_tokens), tokens, tokens
)
proposals = anything | st.builds(Proposal, st.integers(0, 9), st.integers(0, 2**64 - 1), tokens)


@given(st.lists(st.lists(proposals, max_size=6), max_size=6), st.data())
def test_whatever_comes_what_is_offered_lies_on_the_committed_path(
    batches: list[list[Proposal]], data: st.DataObject
) -> None:
    buffer, committed = ProposalBuffer(PROMPT, VOCABULARY), TokenPath(PROMPT)
    for batch in batches:
        known = len(committed)
        for proposal in batch:
            buffer.add(proposal)
        offered = buffer.offer(9)
        assert (offered.position, offered.base_digest) == (known, committed.digest)
        assert all(token < VOCABULARY for token in offered.token_ids)
        assert len(buffer.draft_tokens) == len(buffer)
        decided = data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=3).map(tuple))
        buffer.commit(decided)
        committed.extend(decided)
