"""What many streams that share steps know of their speed together."""

import pytest

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.speculating_speed import (
    LEAST_ROUNDS,
    LEAST_ROUNDS_OF_EACH,
    MANY,
    VALID_ROUNDS,
    SpeculatingSpeed,
)

OTHERS = MANY - 1


@pytest.mark.parametrize(
    ("others", "rounds"), [(1, 192), (7, 192), (MANY - 1, 192), (2 * MANY - 1, 384)]
)
def test_streams_know_it_after_so_many_rounds_together_and_a_few_of_each(
    others: int, rounds: int
) -> None:
    assert (LEAST_ROUNDS, LEAST_ROUNDS_OF_EACH) == (192, 3)
    speed = SpeculatingSpeed()
    for round_ in range(rounds):
        assert speed.beside(others, round_) is None
        speed.observe(2, 0.1, others, round_)
    assert speed.beside(others, rounds - 1) == pytest.approx(20.0)
    assert speed.alone is None


def test_streams_are_out_of_step_once_a_quarter_of_their_rounds_missed_one() -> None:
    """Eleven of those behind 32 that did not."""
    speed = SpeculatingSpeed()
    speed.observe_answer(missed=True, others=7)  # of a load that nobody has seen yet
    speed.observe(2, 0.1, 7, rounds=0)
    for missed in range(11):
        assert speed.is_in_step(7, rounds=missed)
        speed.observe_answer(missed=True, others=7)
    assert not speed.is_in_step(7, rounds=11)
    assert speed.is_in_step(15, rounds=11)
    for _ in range(20):
        speed.observe_answer(missed=False, others=7)
    assert speed.is_in_step(7, rounds=31)


def test_whether_streams_are_in_step_is_found_out_anew_after_so_many_rounds_of_each() -> None:
    speed = SpeculatingSpeed()
    speed.observe(2, 0.1, 7, rounds=0)
    for _ in range(200):
        speed.observe_answer(missed=True, others=7)
    assert not speed.is_in_step(7, rounds=8 * VALID_ROUNDS - 1)
    assert speed.is_in_step(7, rounds=8 * VALID_ROUNDS)


def test_a_stream_alone_has_nobody_to_know_it_with() -> None:
    speed = SpeculatingSpeed()
    for round_ in range(10 * LEAST_ROUNDS):
        speed.observe(2, 0.1, 0, round_)
    assert speed.beside(0, 10 * LEAST_ROUNDS) is None
    assert speed.alone == pytest.approx(20.0)


def test_it_is_measured_anew_after_so_many_rounds_of_each() -> None:
    speed = SpeculatingSpeed()
    for _ in range(LEAST_ROUNDS_OF_EACH * MANY):
        speed.observe(2, 0.1, OTHERS, rounds=0)
    valid = VALID_ROUNDS * MANY
    assert speed.beside(OTHERS, valid - 1) == pytest.approx(20.0)
    assert speed.beside(OTHERS, valid) is None
    for _ in range(LEAST_ROUNDS_OF_EACH * MANY):
        speed.observe(3, 0.1, OTHERS, rounds=valid)
    assert speed.beside(OTHERS, valid) == pytest.approx(30.0)


def test_a_stream_alone_knows_nothing_of_many_nor_they_of_it() -> None:
    measurements = DraftMeasurements()
    measurements.observe_decode_step(0.05, 0)
    measurements.observe_decode_step(0.05, OTHERS)
    measurements.observe_speculating(2, 0.1, others=0)
    assert measurements.speculating_speedup == pytest.approx(1.0)
    assert measurements.shared_speedup(OTHERS) is None
    for _ in range(LEAST_ROUNDS_OF_EACH * MANY):
        measurements.observe_speculating(1, 0.1, OTHERS)
    assert measurements.shared_speedup(OTHERS) == pytest.approx(0.5)
    assert measurements.speculating_speedup == pytest.approx(1.0)


def test_a_decode_step_is_a_mean_over_steps_and_not_over_the_streams_of_the_last_one() -> None:
    measurements = DraftMeasurements()
    for seconds in (0.04, 0.08):
        for _ in range(MANY):
            measurements.observe_decode_step(seconds, OTHERS)
    assert measurements.decode_step_seconds(OTHERS) == pytest.approx(0.06)
