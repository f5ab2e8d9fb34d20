"""When a step begins: at the moment at which all together lose least."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.engine.core.step_start import StepStart, best_wait

STEP = 1.0
TIMES = st.lists(st.floats(0.0, 0.999), max_size=6).map(sorted)


def lost(wait: float, ready: int, expected: list[float]) -> float:
    """Seconds from being ready to the step one is in, of all together, when it begins at `wait`."""
    early = [wait - one for one in expected if one <= wait]
    late = [wait + STEP - one for one in expected if one > wait]
    return ready * wait + sum(early) + sum(late)


@given(ready=st.integers(0, 6), expected=TIMES)
def test_no_other_moment_loses_less(ready: int, expected: list[float]) -> None:
    chosen = best_wait(ready, expected, STEP)
    least = min(lost(wait, ready, expected) for wait in (0.0, *expected))
    assert lost(chosen, ready, expected) == pytest.approx(least)


def test_who_asks_after_the_step_would_have_ended_is_not_waited_for() -> None:
    assert best_wait(1, [2.0], STEP) == 0.0
    assert best_wait(1, [0.4, 2.0], STEP) == 0.4


def answered_twice(think: float) -> StepStart:
    """Two sessions, of which one has asked `think` seconds after its answer, and thinks again."""
    gather = StepStart()
    gather.answered("slow", 0.0)
    gather.asked("slow", think)
    gather.answered("slow", 10.0)
    return gather


def test_it_waits_for_one_that_is_usually_quick_and_not_for_one_that_is_slow() -> None:
    assert answered_twice(0.1).max_wait(1, STEP, 10.0) == pytest.approx(0.1)
    assert answered_twice(0.4).max_wait(1, STEP, 10.0) == pytest.approx(0.4)
    assert answered_twice(0.4).max_wait(2, STEP, 10.0) == 0.0


def test_one_that_is_late_is_expected_soon_and_then_not_at_all() -> None:
    gather = answered_twice(0.1)
    assert gather.max_wait(1, STEP, 10.12) == pytest.approx(0.01)
    assert gather.max_wait(1, STEP, 10.1401) == 0.0


def test_between_short_thoughts_and_long_ones_nobody_is_waited_for() -> None:
    gather = answered_twice(0.01)
    gather.asked("slow", 10.6)
    gather.answered("slow", 20.0)
    assert gather.max_wait(1, STEP, 20.0) == pytest.approx(0.01)
    assert gather.max_wait(1, STEP, 20.02) == 0.0
    assert gather.max_wait(1, STEP, 20.5) == pytest.approx(0.1)


def test_only_who_was_answered_and_must_ask_is_waited_for() -> None:
    gather = answered_twice(0.1)
    assert gather.goes_on("slow")
    assert not gather.thinking
    assert not gather.goes_on("slow")
    gather.answered("slow", 20.0)
    gather.forget("slow")
    assert gather.max_wait(1, STEP, 20.0) == 0.0
