"""Plans, on cases that can be computed by hand."""

import itertools
import statistics

import pytest

from paceline_tools.simulation.plan import GRID, Capacity, LatencyLimits, Prices, capacity, planned
from paceline_tools.simulation.service import percentile, serve
from paceline_tools.simulation.traffic import Asked, Traffic, poisson
from paceline_tools.simulation.world import World

STEP, TOKENS = 0.01, 10
SERVICE = STEP * TOKENS
"""Seconds of a request, on a target that takes one at a time."""
WORLD = World(STEP, 0.001, 0.0, lambda _: 0.9, target_round_trip_seconds=0.0)
EVEN = [Asked(1.0, 1, TOKENS)] * 60


def test_a_stream_at_a_time_that_comes_in_even_steps_waits_for_nobody() -> None:
    served = serve(WORLD, EVEN, 0.99 / SERVICE, 1, drafts=False)
    assert served.first[-1] == pytest.approx(STEP, abs=1e-6)
    assert served.token[-1] == pytest.approx(STEP, abs=1e-6)
    assert served.draft_share == 0.0


def test_half_a_load_of_poisson_arrivals_waits_half_a_service() -> None:
    """M/D/1: the mean wait is load x service / (2 x (1 - load))."""
    asked = poisson(1.0, "1", str(TOKENS)).requests(1, 1500)
    served = serve(WORLD, asked, 0.5 / SERVICE, 1, drafts=False)
    wait = statistics.fmean(served.first) - STEP
    assert wait == pytest.approx(0.5 * SERVICE, rel=0.15)


def test_the_capacity_for_even_arrivals_is_one_over_the_service() -> None:
    limits = LatencyLimits(first_p99=1.5 * STEP)
    found = capacity(WORLD, EVEN, 1, limits, drafts=False)
    assert found is not None
    assert found.rate <= 1 / SERVICE * 1.001 < found.rate * GRID


def test_limits_that_one_stream_alone_is_beyond_are_never_kept() -> None:
    assert capacity(WORLD, EVEN, 1, LatencyLimits(first_p50=STEP / 2), drafts=False) is None
    assert capacity(WORLD, EVEN, 1, LatencyLimits(token_p99=STEP / 2), drafts=False) is None


def test_drafts_keep_a_limit_that_the_target_alone_is_beyond() -> None:
    limits = LatencyLimits(token_p50=STEP / 2)
    assert capacity(WORLD, EVEN[:20], 1, limits, drafts=False) is None
    assert capacity(WORLD, EVEN[:20], 1, limits, drafts=True) is not None


def found(rate: float) -> Capacity:
    return Capacity(rate, serve(WORLD, EVEN[:20], rate, 1, drafts=False))


def traffic(rate: float) -> Traffic:
    return Traffic(rate, lambda _: itertools.repeat(EVEN[0]), TOKENS)


PRICES = Prices(target=3.6, draft=0.5, orchestrator=0.0)


def test_costs_are_the_servers_hour_over_the_tokens_of_an_hour() -> None:
    """8 requests/s of 10 tokens; a target takes 5: two targets at 7.2 an hour, 288,000 tokens."""
    plan = planned("none", [found(5.0)], traffic(8.0), PRICES, drafts=False)
    assert (plan.targets, plan.drafts, plan.orchestrators) == (2, 0, 1)
    assert plan.cost == plan.cost_low == plan.cost_high == pytest.approx(25.0)


def test_the_worst_seed_is_planned_for_and_all_are_in_the_interval() -> None:
    plan = planned("none", [found(8.0), found(2.0), found(4.0)], traffic(8.0), PRICES, drafts=False)
    assert plan.targets == 4
    assert (plan.cost_low, plan.cost, plan.cost_high) == pytest.approx((12.5, 50.0, 50.0))


def test_more_traffic_never_needs_fewer_servers() -> None:
    one = capacity(WORLD, EVEN[:20], 1, LatencyLimits(first_p99=0.1), drafts=True)
    assert one is not None
    plans = [
        planned("d", [one], traffic(rate), PRICES, drafts=True)
        for rate in (0.1, 1.0, 5.0, 9.9, 10.0, 40.0, 400.0)
    ]
    for less, more in itertools.pairwise(plans):
        assert less.targets <= more.targets
        assert less.drafts <= more.drafts
        assert less.orchestrators <= more.orchestrators
    assert plans[-1].targets > plans[0].targets == 1


def test_percentiles_are_values_that_came() -> None:
    ascending = tuple(range(1, 101))
    assert percentile(ascending, 0.5) == 50
    assert percentile(ascending, 0.99) == 99
    assert percentile((7,), 0.5) == percentile((7,), 0.99) == 7
