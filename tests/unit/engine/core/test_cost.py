"""The cost of a step, fitted online."""

import pytest

from paceline.engine.core.cost import CostFit


def test_the_cost_model_finds_the_line() -> None:
    fit = CostFit()
    assert fit.model is None
    for rows in [1, 4, 2, 8, 1, 5, 16, 3, 2, 9]:
        fit.observe(rows, 0.080 + 0.002 * rows)
    model = fit.model
    assert model is not None
    assert model.step_seconds == pytest.approx(0.080)
    assert model.token_seconds == pytest.approx(0.002)


def test_a_cost_model_of_equal_steps_charges_rows_nothing() -> None:
    fit = CostFit()
    for _ in range(20):
        fit.observe(4, 0.1)
    model = fit.model
    assert model is not None
    assert model.step_seconds == pytest.approx(0.1)
    assert model.token_seconds == 0.0
