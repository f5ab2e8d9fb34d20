"""The bound of what a draft far away keeps: where it is known by hand, and what it must not do."""

import pytest

from benchmarks.round_trip_bound import AHEAD, Setting, speedup


def test_a_draft_that_is_never_right_leaves_ordinary_steps() -> None:
    setting = Setting(0.0, 0.0, AHEAD, 20.0)
    assert speedup(setting, (0, 0, 0), 200, seed=1) == pytest.approx(25.0 / 25.5)


def test_a_draft_that_is_always_right_limits_the_stream_by_its_own_pace() -> None:
    for round_trip in (0.5, 20.0):
        setting = Setting(1.0, 0.0, AHEAD, round_trip)
        assert speedup(setting, (0, 0, 0), 2000, seed=1) == pytest.approx(10.0, rel=0.02)


def test_where_branches_cover_all_misses_the_round_trip_costs_next_to_nothing() -> None:
    near, away = Setting(0.7, 1.0, AHEAD, 0.5), Setting(0.7, 1.0, AHEAD, 20.0)
    at_hand = speedup(near, (0, 3, 1), 2000, seed=1)
    assert speedup(away, (0, 3, 1), 2000, seed=1) == pytest.approx(at_hand, rel=0.02)


def test_what_branches_foresee_and_cover_is_worth_more_the_farther_the_draft_is() -> None:
    def kept(covered: float, depth: int) -> float:
        away, at_hand = (Setting(0.7, covered, depth, trip) for trip in (20.0, 0.5))
        slow = speedup(away, (0, 3, 1), 4000, seed=1)
        return slow / speedup(at_hand, (2, 3, 1), 4000, seed=1)

    assert kept(0.5, 1) < kept(0.5, AHEAD) - 0.01 < kept(0.8, AHEAD) - 0.02
