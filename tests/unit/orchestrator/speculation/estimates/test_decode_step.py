"""What an ordinary decode step takes beside others: only steps tell in which all just decode."""

import pytest

from orchestrator.speculation.estimates.decode_step import (
    BURST,
    DECODE_STEP_ROUNDS,
    FIRST_ROUNDS,
    DecodeStep,
)
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.stream_speed import StreamSpeed
from orchestrator.speculation.reason import Reason
from paceline.protocol.session import Load
from paceline.protocol.verdict import TimedVerdict, Verdict

OTHERS = 63


def stale_at(step: DecodeStep, since: int, others: int = OTHERS) -> int:
    """Rounds of each stream, after `since` of all, after which it is to be measured again."""
    return next(
        rounds
        for rounds in range(2 * DECODE_STEP_ROUNDS)
        if step.is_stale(others, since + rounds * (1 + others))
    )


def test_what_is_measured_while_streams_begin_together_is_forgotten_with_the_first_pure_step() -> (
    None
):
    step = DecodeStep(OTHERS)
    for seconds in (0.05, 0.06):
        step.observe(seconds, OTHERS, 0, pure=False)
    assert step.seconds == pytest.approx(0.055)
    for seconds in (0.03, 0.04):
        step.observe(seconds, OTHERS, 0, pure=True)
    assert step.seconds == pytest.approx(0.035)


def test_beside_streams_that_speculate_a_paused_one_does_not_tell_what_the_target_alone_takes() -> (
    None
):
    step = DecodeStep(OTHERS)
    step.observe(0.03, OTHERS, 0, pure=True)
    for _ in range(100):
        step.observe(0.06, OTHERS, 64, pure=False)
    assert step.seconds == 0.03


def test_beside_many_it_is_measured_again_soon_at_first_and_ever_later_after_that() -> None:
    step, rounds, found = DecodeStep(OTHERS), 0, []
    for _ in range(7):
        step.observe(0.05, OTHERS, rounds, pure=True)
        found.append(stale_at(step, rounds))
        rounds += found[-1] * (1 + OTHERS)
    assert found == [8, 16, 32, 64, 128, 256, 256]
    for others in (0, 3, BURST - 2):
        few = DecodeStep(others)
        few.observe(0.05, others, 0, pure=True)
        assert stale_at(few, 0, others) == DECODE_STEP_ROUNDS


def test_of_a_few_streams_every_ordinary_step_tells_and_one_alone_decides_nothing() -> None:
    step = DecodeStep(3)
    for rounds, seconds in ((0, 0.03), (100, 0.04), (4 * DECODE_STEP_ROUNDS + 200, 0.05)):
        step.observe(seconds, 3, rounds, pure=rounds != 100)
    assert step.seconds == pytest.approx(0.04)
    assert stale_at(step, 4 * DECODE_STEP_ROUNDS + 200, 3) == DECODE_STEP_ROUNDS


def test_measured_again_it_is_what_is_seen_then_and_nothing_of_the_beginning() -> None:
    """As 64 streams begin, decode steps take twice as long: their prompts are on the way."""
    step = DecodeStep(OTHERS)
    for _ in range(64):
        step.observe(0.065, OTHERS, 0, pure=True)
    later = FIRST_ROUNDS * (1 + OTHERS)
    step.observe(0.05, OTHERS, later, pure=False)  # the first of the two steps that are measured
    for _ in range(64):
        step.observe(0.035, OTHERS, later, pure=True)
    assert step.seconds == pytest.approx(0.035)


def test_a_pure_step_that_is_long_ago_gives_way_to_what_there_is() -> None:
    """Streams whose requests force speculation never pause: no step is pure beside them."""
    step = DecodeStep(OTHERS)
    step.observe(0.03, OTHERS, 0, pure=True)
    step.observe(0.06, OTHERS, FIRST_ROUNDS * (1 + OTHERS), pure=False)
    assert step.seconds == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("batched_tokens", "expected"), [(64, 0.04), (60, 0.04), (65, 0.05), (300, 0.05)]
)
def test_a_step_is_pure_in_which_no_stream_has_more_than_a_row(
    batched_tokens: int, expected: float
) -> None:
    """Told by what the target says of its batch: first steps of 0.05 s that read a prompt."""
    measurements = DraftMeasurements()
    speed, now = StreamSpeed(measurements), 0.0
    for seconds, rows in [(0.05, 300)] * 3 + [(0.04, batched_tokens)]:
        now += seconds
        one = Verdict(0, (7,), load=Load(sessions=64, batched_tokens=rows))
        speed.observe(TimedVerdict(one, now), Reason.PAUSED_SPEEDUP, OTHERS)
    found = measurements.decode_step_seconds(OTHERS)
    assert found == pytest.approx(expected, abs=0.006)
    assert (found == pytest.approx(0.04)) is (expected == 0.04)
