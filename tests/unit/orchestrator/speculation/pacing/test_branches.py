"""Branches beside draft tokens: which are verified, and what they bring in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speculation.drafting.draft_buffer import ProposalBuffer
from orchestrator.speculation.estimates.acceptance import Calibration, StreamAcceptance
from orchestrator.speculation.pacing.plan import KnownBranch, Worth
from paceline.protocol.proposal import DraftToken, Proposal
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import Verdict
from paceline_tools.simulation.run import Outcome, simulate_policy
from paceline_tools.simulation.world import World

PROMPT = (1, 2)
UNSURE, SURE = DraftToken(5, 0.0, second=6), DraftToken(5, 20.0, second=6)
MANY = 64


def worth(token_cost: float = 0.0, most: int = MANY, branch_cost: float = 0.0) -> Worth:
    return Worth(StreamAcceptance(Calibration()), token_cost, branch_cost, most)


def second_best(index: int, *following: DraftToken) -> KnownBranch:
    return KnownBranch(index, (DraftToken(6), *following))


def lengths(chosen: tuple[KnownBranch, ...]) -> dict[int, int]:
    return {branch.draft_position: len(branch.tokens) for branch in chosen}


def test_a_branch_is_verified_where_the_draft_is_unsure_and_not_where_it_is_sure() -> None:
    known = [second_best(index) for index in range(3)]
    chosen = worth(token_cost=0.05).branches([SURE, UNSURE, SURE], known)
    assert lengths(chosen) == {1: 1}


def test_what_follows_a_second_best_token_is_verified_as_far_as_it_is_worth_it() -> None:
    known = [second_best(0, *[SURE] * 3, *[UNSURE] * 9)]
    everything, cheap, expensive = (
        lengths(worth(cost).branches([UNSURE], known)) for cost in (0.0, 0.1, 0.5)
    )
    assert everything == {0: 13}
    assert 4 <= cheap[0] < 13
    assert expensive == {}


def test_a_branch_that_costs_more_than_it_brings_is_left_out() -> None:
    known = [second_best(0), second_best(1, *[SURE] * 5)]
    chosen = [
        lengths(worth(branch_cost=cost).branches([UNSURE, UNSURE], known)) for cost in (0.1, 0.4, 9)
    ]
    assert chosen == [{0: 1, 1: 6}, {1: 6}, {}]
    unknown = Worth(StreamAcceptance(Calibration()), 0.0, most_branch_tokens=MANY)
    assert not unknown.branches([UNSURE, UNSURE], known)


@given(
    st.lists(st.floats(0, 12), min_size=1, max_size=8),
    st.integers(0, 12),
    st.floats(0, 0.3),
)
def test_the_likeliest_tokens_are_verified_within_the_bound(
    confidences: list[float], most: int, cost: float
) -> None:
    tokens = [DraftToken(5, confidence, second=6) for confidence in confidences]
    known = [second_best(index, UNSURE, UNSURE) for index in range(len(tokens))]
    chosen = worth(cost, most).branches(tokens, known)
    assert sum(lengths(chosen).values()) <= most
    unbounded = lengths(worth(cost).branches(tokens, known))
    assert lengths(chosen).items() <= unbounded.items() or most < sum(unbounded.values())
    for branch in chosen:
        assert branch.tokens == known[branch.draft_position].tokens[: len(branch.tokens)]


def test_how_often_the_second_best_token_is_right_is_learned_of_rejections() -> None:
    calibration = Calibration()
    acceptance = StreamAcceptance(calibration)
    for right, rises in ((6, True), (7, False)):
        before = calibration.second.value
        for _ in range(9):
            acceptance.observe((SURE, UNSURE), Verdict(2, (5, right, 9), 2, 1))
        assert (calibration.second.value > before) is rises
    learned = calibration.second.value
    acceptance.observe((SURE, UNSURE), Verdict(2, (5, 5, 9), 2, 2))
    acceptance.observe((DraftToken(5),), Verdict(2, (6,), 1, 0))  # it has no second-best one
    assert calibration.second.value == learned


def test_a_buffer_knows_what_may_come_in_place_of_its_draft_tokens() -> None:
    buffer = ProposalBuffer(PROMPT, 9)
    base = TokenPath(PROMPT).digest
    buffer.add(Proposal(2, base, (3, 4, 5), (1.0,) * 3, second_token_ids=(7, 4, 10)))
    behind_first = TokenPath((*PROMPT, 3)).digest
    buffer.add(Proposal(3, behind_first, (8, 2)))
    found = buffer.branches(3)
    assert [(one.draft_position, *(token.id for token in one.tokens)) for one in found] == [
        (0, 7),
        (1, 8, 2),
    ]
    assert buffer.branch_proposal(found[1]) == Proposal(3, behind_first, (8, 2))
    assert buffer.branches(0) == []


def outcome(**of: object) -> Outcome:
    world = World(0.025, 0.0025, 0.0005, lambda _: 0.7, second_acceptance=0.76)
    return simulate_policy(world.__class__(**{**vars(world), **of}), None, 600)


@pytest.mark.parametrize("shares_cores", [False, True])
def test_where_rows_are_free_a_verification_decides_a_tenth_more_with_branches(
    shares_cores: bool,
) -> None:
    without, beside = (outcome(shares_cores=shares_cores, branches=one) for one in (False, True))
    assert beside.branch_accepted > 0 == without.branch_accepted
    assert beside.tokens / len(beside.lengths) > 1.1 * without.tokens / len(without.lengths)
    assert beside.tokens_per_second > 1.05 * without.tokens_per_second


def test_where_rows_are_dear_none_is_verified() -> None:
    beside = outcome(branches=True, token_seconds=0.025)
    assert beside.branch_accepted == 0
