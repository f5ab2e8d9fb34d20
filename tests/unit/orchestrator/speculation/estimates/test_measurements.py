"""What all streams know together of a target, and of its drafts."""

from orchestrator.speculation.estimates.decode_step import DECODE_STEP_ROUNDS
from orchestrator.speculation.estimates.measurements import (
    WAIT_ROUNDS,
    WAIT_STEPS,
    DraftMeasurements,
    TargetMeasurements,
)
from paceline.protocol.proposal import Drafter


def observes(measurements: DraftMeasurements, sessions: int = 1) -> bool:
    """Whether a round has its draft tokens each at once."""
    stale = measurements.waits_are_stale(sessions)
    if stale:
        measurements.begin_observing_waits()
    return stale


def test_an_ordinary_decode_step_is_measured_again_after_so_many_rounds_of_each_stream() -> None:
    measurements = TargetMeasurements()
    assert measurements.decode_step_is_stale(0)
    measurements.observe_decode_step(0.025, 0)
    measurements.observe_decode_step(0.025, 3)
    for _ in range(DECODE_STEP_ROUNDS):
        assert not measurements.decode_step_is_stale(0)
        measurements.count(4)
    assert measurements.decode_step_is_stale(0)
    assert not measurements.decode_step_is_stale(3)
    for _ in range(3 * DECODE_STEP_ROUNDS):
        assert not measurements.decode_step_is_stale(3)
        measurements.count(4)
    assert measurements.decode_step_is_stale(3)


def test_one_round_in_so_many_has_its_draft_tokens_at_once_and_all_until_they_are_known() -> None:
    measurements = DraftMeasurements()
    assert observes(measurements)
    assert observes(measurements)
    for restart in (True, False):
        measurements.observe_wait(0.002, Drafter.MODEL, restart=restart)
    turns = []
    for _ in range(3 * WAIT_ROUNDS):
        measurements.count(4)
        turns.append(observes(measurements))
    assert sum(turns) == 3


def test_beside_many_streams_fewer_rounds_have_their_draft_tokens_at_once() -> None:
    measurements = DraftMeasurements()
    for restart in (True, False):
        measurements.observe_wait(0.002, Drafter.MODEL, restart=restart)
    turns = []
    for _ in range(2 * WAIT_STEPS * 64):
        measurements.count(4)
        turns.append(observes(measurements, sessions=64))
    assert sum(turns) == 2
