"""What many streams that share steps know of their speed together."""

import pytest

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.speculating_speed import (
    LEAST_ROUNDS_OF_EACH,
    MANY,
    VALID_ROUNDS,
    SpeculatingSpeed,
)

OTHERS = MANY - 1


def test_many_streams_know_it_after_a_few_rounds_of_each_and_fewer_never_do() -> None:
    speed = SpeculatingSpeed()
    for others in (OTHERS, OTHERS - 1):
        for rounds in range(LEAST_ROUNDS_OF_EACH * MANY):
            assert speed.beside(OTHERS, rounds) is None
            speed.observe(2, 0.1, others, rounds)
        last = LEAST_ROUNDS_OF_EACH * MANY - 1
        assert speed.beside(others, last) == (pytest.approx(20.0) if others == OTHERS else None)
        speed = SpeculatingSpeed()
    assert speed.alone is None


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
