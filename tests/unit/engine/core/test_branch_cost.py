"""What a branch costs beside its rows: learned of the steps that have some."""

import math

import pytest

from paceline.engine.core.cost import CostFit


def seconds(rows: int, branches: int) -> float:
    return 0.09 + 0.002 * rows + 0.007 * branches


def learned(*, begins_with_branches: bool) -> CostFit:
    fit = CostFit()
    if begins_with_branches:
        fit.observe(9, seconds(9, 3), branches=3)
    for step in range(60):
        rows = 1 + step % 6
        fit.observe(rows, seconds(rows, 0))
    for step in range(20):
        rows, branches = 2 + step % 6, 1 + step % 3
        fit.observe(rows, seconds(rows, branches), branches)
    return fit


@pytest.mark.parametrize("begins_with_branches", [False, True])
def test_rows_and_branches_are_told_apart(begins_with_branches: bool) -> None:
    model = learned(begins_with_branches=begins_with_branches).model
    assert model is not None
    assert math.isclose(model.step_seconds, 0.09, rel_tol=1e-6)
    assert math.isclose(model.token_seconds, 0.002, rel_tol=1e-6)
    assert math.isclose(model.branch_seconds, 0.007, rel_tol=1e-6)


def test_a_branch_that_costs_nothing_is_never_said_to_save_time() -> None:
    fit = CostFit()
    for step in range(40):
        fit.observe(1 + step % 6, 0.1 + 0.002 * (step % 6))
    fit.observe(5, 0.09, branches=2)
    assert fit.model is not None
    assert fit.model.branch_seconds == 0.0


def test_a_cost_that_keeps_branches_away_is_forgotten_in_time() -> None:
    fit = learned(begins_with_branches=False)
    for step in range(1000):
        fit.observe(1 + step % 6, seconds(1 + step % 6, 0))
    assert fit.model is not None
    assert fit.model.branch_seconds < 0.007 / 4
