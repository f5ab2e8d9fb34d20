"""What a plan waits for, and what it verifies."""

from orchestrator.speculation.estimates.acceptance import Calibration, StreamAcceptance
from orchestrator.speculation.pacing.plan import (
    LATE,
    LATE_SECONDS,
    Plan,
    WaitForCount,
    WaitWhileWorth,
    Worth,
)
from paceline.protocol.proposal import DraftToken

SURE, UNSURE = DraftToken(1, confidence=20.0), DraftToken(1, confidence=0.0)


def worth(token_cost: float) -> Worth:
    return Worth(StreamAcceptance(Calibration()), token_cost)


def test_a_count_is_waited_for_each_time_as_long_or_all_together() -> None:
    each, in_all = WaitForCount(2, 1.0), WaitForCount(2, 1.0, in_all=True)
    assert each.max_wait([SURE], None, 0.75) == 1.0
    assert in_all.max_wait([SURE], None, 0.75) == 0.25
    assert in_all.max_wait([SURE], None, 2.0) == 0.0
    assert each.max_wait([SURE] * 2, None, 0.0) == in_all.max_wait([SURE] * 2, None, 0.0) == 0.0


def test_what_is_at_hand_is_not_kept_for_what_comes_while_the_target_decodes_on() -> None:
    rule = WaitForCount(3, 0.02, in_all=True, meanwhile=True)
    assert rule.max_wait([], None, 0.0) == 0.02
    assert rule.max_wait([SURE], None, 0.0) == 0.0
    assert rule.max_wait([SURE], None, 0.005) == 0.015
    assert rule.max_wait([SURE] * 3, None, 0.005) == 0.0
    assert rule.max_wait([], None, 0.03) == 0.0
    assert Plan(4, rule).meanwhile
    assert not Plan(4).meanwhile
    assert Plan(4, rule).enough == 3


def test_a_first_draft_token_is_not_waited_for_much_longer_than_it_takes_as_measured() -> None:
    first = WaitForCount(1, 1.0, measured=True)
    assert first.max_wait([], None, 0.0) == 1.0
    assert first.max_wait([], 0.1, 0.0) == LATE * 0.1
    assert first.max_wait([], 0.001, 0.0) == LATE_SECONDS
    assert first.max_wait([], 10.0, 0.0) == 1.0


def test_one_more_is_waited_for_while_it_is_worth_more_than_the_wait() -> None:
    rule = WaitWhileWorth(worth(0.05), at_most=3, second_cost=20.0, max_wait_seconds=1.0)
    assert rule.max_wait([SURE], 0.01, 0.0) == 4 * 0.01 + 0.002
    assert rule.max_wait([SURE], None, 0.0) == 1.0
    assert rule.max_wait([SURE], 0.039, 0.0) > 0.0  # 0.78 tokens for 0.8
    assert rule.max_wait([UNSURE], 0.039, 0.0) == 0.0
    assert rule.max_wait([SURE] * 3, 0.01, 0.0) == 0.0
    assert rule.max_wait([SURE], 0.5, 0.0) == 0.0


def test_a_plan_verifies_all_or_only_what_is_worth_it() -> None:
    tokens = [SURE, UNSURE, UNSURE, SURE]
    assert Plan(3).length(tokens) == 3
    assert Plan(3, worth=worth(0.0)).length(tokens) == 3
    assert Plan(3, worth=worth(0.4)).length(tokens) == 2
    assert Plan(0, worth=worth(0.0)).length(tokens) == 0
    assert Plan(3).enough == 0
    assert Plan(3, WaitForCount(2)).enough == 2
    assert Plan(3, WaitWhileWorth(worth(0.1), 3, 1.0, 1.0)).enough is None
