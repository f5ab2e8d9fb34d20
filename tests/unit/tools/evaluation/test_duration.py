"""How long an evaluation takes is told from what it has done."""

import pytest

from paceline_tools.evaluation.duration import Duration, EvaluationPlan, about


def test_the_rest_takes_what_the_beginning_did() -> None:
    clock = [0.0]
    plan = EvaluationPlan(prompts=10, candidates=1, with_model=0, measure=True, alone=False)
    assert plan.units == 10 + 4 + 10 * 4.5
    duration = Duration(plan, lambda: clock[0])
    assert duration.total_seconds == duration.left_seconds == 0.0
    clock[0] = 100.0
    duration.begin()  # loading does not count
    clock[0] = 102.0
    duration.advance(1.0)
    assert duration.total_seconds == pytest.approx(2 * plan.units)
    assert duration.left_seconds == pytest.approx(2 * (plan.units - 1))


def test_a_plan_is_told_before_anything_is_known() -> None:
    plan = EvaluationPlan(prompts=16, candidates=3, with_model=2, measure=True, alone=True)
    assert str(plan) == (
        "3 candidates, 16 prompts, 64 outputs measured for each candidate; how long it takes is "
        "said once the target has answered the first prompt"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "a moment"), (6, "about 10 s"), (44, "about 40 s"), (600, "about 10 min")],
)
def test_a_guess_is_told_as_one(seconds: float, said: str) -> None:
    assert about(seconds) == said
