"""Averages that forget, and times that are kept out of them."""

import pytest

from paceline.averages import DecayedSums, Mean, Rate, Share, Stalls


def test_each_addition_lets_the_earlier_ones_weigh_less() -> None:
    sums = DecayedSums(2, 0.5)
    sums.add(1.0, 4.0)
    sums.add(1.0, 8.0)
    assert sums.values == [1.5, 10.0]
    sums.scale(2.0)
    assert sums.values == [3.0, 20.0]


def test_a_rate_is_that_of_the_latest_rounds() -> None:
    rate = Rate(memory=2.0)
    assert rate.value is None
    rate.observe(3.0, 1.0)
    assert rate.value == 3.0
    rate.observe(1.0, 1.0)
    assert rate.value == pytest.approx((1.5 + 1.0) / 1.5)


def test_a_share_begins_with_its_prior_and_may_be_doubted() -> None:
    share = Share(0.5, 4.0, memory=100.0)
    assert (share.value, share.weight) == (0.5, 4.0)
    for _ in range(1000):
        share.observe(True)
    assert share.value > 0.99
    before = share.value
    share.doubt(2.0)
    assert share.value == pytest.approx(before)
    share.observe(False)
    assert share.value < 0.7


def test_one_long_time_is_a_stall_and_two_are_what_things_take() -> None:
    stalls = Stalls()
    assert not stalls.is_one(9.0, None)
    assert [stalls.is_one(one, 0.1) for one in (0.9, 1.1, 1.1, 1.1)] == [False, True, False, True]
    assert not Stalls(expects=True).is_one(9.0, 0.1)


def test_a_mean_of_times_leaves_stalls_out_and_follows_what_stays() -> None:
    mean = Mean()
    assert [mean.observe(value) for value in (0.1, 0.3, 9.0)] == [True, True, False]
    assert mean.value == pytest.approx(0.2)
    for _ in range(100):
        mean.observe(0.4)
    assert mean.value == pytest.approx(0.4, rel=0.01)
