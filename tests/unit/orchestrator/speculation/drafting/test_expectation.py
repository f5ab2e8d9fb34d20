"""When the next draft token is expected, by a clock that the test moves."""

import pytest

from orchestrator.speculation.drafting.expectation import OVERDUE, SOON, Expectation
from orchestrator.speculation.drafting.lookahead import Lookahead
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.plan import Plan
from paceline.protocol.proposal import Drafter

PROMPT, STEP, ROUND_TRIP, OPENING = 10, 0.002, 0.02, 0.5
RESTART = ROUND_TRIP + STEP


class Drafted:
    """A draft whose times are known; it has credit from 0 s on."""

    def __init__(self, *, cold: bool = False) -> None:
        self.measurements = DraftMeasurements()
        self.measurements.observe_wait(RESTART, Drafter.MODEL, restart=True)
        self.measurements.observe_wait(STEP, Drafter.MODEL, restart=False)
        self.measurements.observe_opening(PROMPT, OPENING)
        self.lookahead = Lookahead(PROMPT, self.measurements, shares_cores=False)
        self.expectation = Expectation(
            self.measurements,
            self.lookahead,
            PROMPT,
            cold=cold,
            round_trip_seconds=ROUND_TRIP,
        )
        self.lookahead.while_verifying(Plan(4, lookahead=6), 0, 0, ())
        self.expectation.told(0.0)


def test_a_first_token_waits_for_the_prompt_and_those_that_follow_for_a_step() -> None:
    drafted = Drafted(cold=True)
    assert drafted.expectation.opening_seconds == pytest.approx(OPENING)
    assert drafted.expectation.seconds(0.1) == pytest.approx(OPENING - 0.1)
    drafted.expectation.come(1, Drafter.MODEL, OPENING)
    assert drafted.expectation.opening_seconds == 0.0
    assert drafted.expectation.seconds(OPENING) == pytest.approx(STEP)


def test_a_token_found_by_lookup_does_not_end_the_wait_for_the_prompt() -> None:
    drafted = Drafted(cold=True)
    drafted.expectation.come(1, Drafter.NGRAM, 0.001)
    assert drafted.expectation.opening_seconds == pytest.approx(OPENING)


def test_a_rejection_means_a_round_trip() -> None:
    expectation = Drafted().expectation
    expectation.come(1, Drafter.MODEL, RESTART)
    expectation.commit(stayed=False, ready=False)
    assert expectation.seconds(1.0) == pytest.approx(RESTART)
    expectation.told(1.0)
    assert expectation.seconds(1.0 + STEP) == pytest.approx(RESTART - STEP)


def test_a_draft_that_was_told_to_stop_is_not_expected_since_then() -> None:
    drafted = Drafted()
    drafted.lookahead.while_verifying(Plan(0), 0, 0, ())
    drafted.expectation.told(0.5)
    drafted.lookahead.commit((1,))
    drafted.expectation.commit(stayed=True, ready=False)
    drafted.lookahead.while_verifying(Plan(4, lookahead=6), 0, 0, ())
    drafted.expectation.told(9.0)
    assert drafted.expectation.seconds(9.0) == pytest.approx(RESTART)
    drafted.expectation.come(1, Drafter.MODEL, 9.0 + RESTART)
    assert drafted.measurements.wait(restart=True) == pytest.approx(RESTART)


def test_a_late_token_is_expected_soon_and_overdue_after_a_wait_far_too_long() -> None:
    expectation = Drafted().expectation
    assert expectation.seconds(10.0) == pytest.approx(SOON * RESTART)
    expectation.miss(0.99 * OVERDUE * RESTART)
    assert not expectation.overdue
    expectation.miss(1.01 * OVERDUE * RESTART)
    assert expectation.overdue


def test_a_draft_without_credit_is_not_at_work_and_its_time_does_not_run() -> None:
    drafted = Drafted()
    drafted.lookahead.reach(PROMPT + 6)
    drafted.expectation.come(6, Drafter.MODEL, RESTART)
    assert drafted.expectation.seconds(10.0) == pytest.approx(STEP)


def test_each_path_tells_once_whether_there_is_a_draft_token_at_all() -> None:
    drafted = Drafted()
    before = drafted.measurements.hit_rate.value
    drafted.expectation.end()
    after = drafted.measurements.hit_rate.value
    assert after < before
    drafted.expectation.end()
    assert drafted.measurements.hit_rate.value == after
