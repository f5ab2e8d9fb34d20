"""What a candidate draft would have had accepted, computed by hand."""

import math

import pytest

from orchestrator.speculation.estimates.shadow import (
    LEAST_OUTPUTS,
    ShadowedOutput,
    ShadowMeasurements,
)
from paceline.protocol.session import CostModel


@pytest.mark.parametrize(
    ("drafted", "true", "decided", "judged", "accepted"),
    [
        ((1, 2, 3), (1, 2, 3, 4), 4, 3, 3),  # and the target's own token behind them
        ((1, 2, 3), (1, 2, 3), 3, 3, 3),  # where the output ends there is none
        ((1, 9, 3), (1, 2, 3, 4), 2, 2, 1),  # what is behind a wrong token is not judged
        ((9,), (1, 2), 1, 1, 0),
        ((), (1, 2), 1, 0, 0),
        ((5, 6), (5,), 1, 1, 1),
    ],
)
def test_a_round_decides_what_a_target_would(
    drafted: tuple[int, ...], true: tuple[int, ...], decided: int, judged: int, accepted: int
) -> None:
    output = ShadowedOutput()
    assert output.judge(drafted, true) == decided
    assert output == ShadowedOutput(decided, 1, not drafted, min(judged, len(true)), accepted)


def of(accepted: int, judged: int) -> ShadowedOutput:
    return ShadowedOutput(tokens=judged, rounds=judged, judged=judged, accepted=accepted)


def test_the_interval_is_all_there_is_while_outputs_are_few() -> None:
    measurements = ShadowMeasurements()
    assert measurements.acceptance is None
    for _ in range(LEAST_OUTPUTS - 1):
        measurements.observe(of(5, 10))
    found = measurements.acceptance
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_the_interval_is_over_outputs() -> None:
    """Half of them all right, half all wrong: 8 outputs say no more than 8 tokens would."""
    measurements = ShadowMeasurements()
    for index in range(8):
        measurements.observe(of(100 * (index % 2), 100))
    found = measurements.acceptance
    assert found is not None
    assert found.value == 0.5
    half = 1.96 * math.sqrt(8 * 50 * 50 * 8 / 7) / 800
    assert found.high - found.value == pytest.approx(half)
    assert found.value - found.low == pytest.approx(half)


def test_outputs_that_are_alike_leave_the_interval_of_independent_tokens() -> None:
    measurements = ShadowMeasurements()
    for _ in range(10):
        measurements.observe(of(80, 100))
    found = measurements.acceptance
    assert found is not None
    assert found.high - found.value == pytest.approx(1.96 * math.sqrt(0.8 * 0.2 / 1000))


def test_the_step_is_from_token_to_token_where_the_target_decoded_alone() -> None:
    measurements = ShadowMeasurements()
    measurements.observe_target(None, None)
    assert measurements.target_step.value is None
    measurements.observe_target(None, CostModel(0.02, 0.001))
    assert measurements.target_step.value == pytest.approx(0.021)
    assert measurements.verify_token.value == 0.001
    measurements.observe_target(0.03, CostModel(0.02, 0.001))
    assert measurements.target_step.value == pytest.approx(0.0255)


def test_the_share_of_rounds_with_draft_tokens() -> None:
    measurements = ShadowMeasurements()
    assert measurements.draft_rate == 0.0
    measurements.observe(ShadowedOutput(tokens=8, rounds=8, silent=6, judged=2, accepted=2))
    assert measurements.draft_rate == 0.25
