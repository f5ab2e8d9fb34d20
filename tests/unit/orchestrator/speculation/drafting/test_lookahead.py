"""What a draft is told, and when: an Advance only where it matters to what the draft does."""

import pytest

from orchestrator.speculation.drafting.lookahead import (
    BEGIN_LOOKAHEAD,
    HELD_DRAFT_TOKENS,
    Lookahead,
)
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.plan import Plan
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter

PROMPT, STEP = 5, 0.002
PLAN = Plan(4, lookahead=6)


def made(*, shares_cores: bool = False, fixed: int | None = None) -> Lookahead:
    measurements = DraftMeasurements()
    measurements.observe_wait(STEP, Drafter.MODEL, restart=False)
    return Lookahead(PROMPT, measurements, shares_cores=shares_cores, fixed=fixed)


def told(lookahead: Lookahead, length: int = 0, ready: int = 0) -> Advance | None:
    return lookahead.while_verifying(PLAN, length, ready, ())


def test_news_are_told_once_and_the_same_credit_not_again() -> None:
    lookahead = made()
    assert told(lookahead) == Advance(PROMPT, (), 6)
    assert told(lookahead) is None
    lookahead.commit((7, 8))
    lookahead.commit((9,))
    assert told(lookahead) == Advance(PROMPT, (7, 8, 9), 6)
    lookahead.commit((1,))
    assert told(lookahead) == Advance(PROMPT + 3, (1,), 6)


def test_without_credit_it_matters_only_that_a_draft_stops_which_is_at_work() -> None:
    lookahead = made()
    assert told(lookahead) is not None
    assert lookahead.at_work
    stop = Plan(0, lookahead=0)
    assert lookahead.while_verifying(stop, 0, 0, ()) == Advance(PROMPT, (), 0)
    lookahead.commit((7,))
    assert lookahead.while_verifying(stop, 0, 0, ()) is None
    assert not lookahead.at_work


@pytest.mark.parametrize(("shares_cores", "expected"), [(False, 6 + 4), (True, 6)])
def test_the_lookahead_begins_behind_what_is_verified_unless_they_share_cores(
    shares_cores: bool, expected: int
) -> None:
    advance = told(made(shares_cores=shares_cores), length=4, ready=4)
    assert advance is not None
    assert advance.lookahead == expected


def test_a_draft_that_shares_the_cores_does_not_begin_while_the_target_reads() -> None:
    assert made(shares_cores=True).begin() is None
    assert made().begin() == Advance(PROMPT, (), BEGIN_LOOKAHEAD, BEGIN_LOOKAHEAD)


def test_a_fixed_lookahead_is_granted_whatever_the_plan_says() -> None:
    assert told(made(fixed=3), length=4, ready=4) == Advance(PROMPT, (), 3, 3)


@pytest.mark.parametrize(("steps", "worth"), [(HELD_DRAFT_TOKENS, True), (1, False)])
def test_draft_tokens_are_held_back_where_enough_of_them_come_together(
    steps: int, worth: bool
) -> None:
    lookahead = made()
    told(lookahead)
    advance = lookahead.while_verifying(PLAN, 0, 0, (steps * STEP * 1.01,))
    assert (advance is not None) is worth
    assert lookahead.tells_time(1, restart=False) is not worth


def test_a_draft_is_at_work_until_its_credit_is_used_or_it_says_that_nothing_comes() -> None:
    lookahead = made()
    told(lookahead)
    lookahead.reach(PROMPT + 5)
    assert lookahead.at_work
    lookahead.reach(PROMPT + 6)
    assert not lookahead.at_work
    lookahead.reach(PROMPT)
    lookahead.exhausted = True
    assert not lookahead.at_work
    lookahead.commit((7,))
    assert lookahead.at_work
