"""Streams that share steps: as fast as always speculating, or never, whichever is faster."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.draft_length import (
    SharedCosts,
    best_length,
    meanwhile_speed,
    together_speed,
)
from orchestrator.speculation.pacing.pacer import FixedPacer, Pacer
from paceline_tools.simulation.run import simulate_crowd, simulate_mixed
from paceline_tools.simulation.world import World
from tests.marks import slow

TOKENS = 500


def together(
    streams: int, acceptance: float, make_pacer: Callable[[DraftMeasurements], Pacer]
) -> float:
    world = World(
        0.025,
        0.0025,
        0.002,
        lambda _: acceptance,
        token_seconds=0.00005,
        draft_token_seconds=0.00005,
        handling_seconds=0.0003,
    )
    measurements = DraftMeasurements()
    pacers = [make_pacer(measurements) for _ in range(streams)]
    outcomes = simulate_crowd(world, pacers, measurements, TOKENS)
    assert all(outcome.tokens >= TOKENS for outcome in outcomes)
    return sum(outcome.tokens_per_second for outcome in outcomes)


@pytest.mark.parametrize("streams", [2, 8, *slow(32)])
@pytest.mark.parametrize("acceptance", [0.85, 0.6, 0.3])
def test_many_streams_are_as_fast_as_the_better_of_always_and_never(
    streams: int, acceptance: float
) -> None:
    never = together(streams, acceptance, lambda _: FixedPacer(0, 0.0))
    always = together(streams, acceptance, lambda _: FixedPacer(4, 30.0))
    paced = together(streams, acceptance, lambda measurements: AdaptivePacer(measurements, 16, 1.0))
    # Until it is known that too few are right, some are tried: that is the rest.
    assert paced > (0.97 if acceptance > 0.5 else 0.93) * max(never, always)


@pytest.mark.parametrize("streams", [4, *slow(8), 16])
@pytest.mark.parametrize("acceptance", [0.4, 0.3])
def test_where_it_hardly_pays_none_loses_by_others_that_do_or_do_not_speculate(
    streams: int, acceptance: float
) -> None:
    """One that paused had a step of its own between two of the others', who lost a sixth by it."""
    world = World(0.025, 0.0025, 0.0005, lambda _: acceptance, token_seconds=0.0005)
    for seed in (100, 101, 102):
        measurements = DraftMeasurements()
        pacers = [AdaptivePacer(measurements, 16, 1.0) for _ in range(streams)]
        found = simulate_crowd(replace(world, seed=seed), pacers, measurements, TOKENS)
        alone = TOKENS * world.verify_seconds(streams)
        assert max(outcome.seconds for outcome in found) < alone / 0.96


def test_the_best_length_is_longer_for_better_draft_tokens_and_none_where_none_pays() -> None:
    costs = SharedCosts(decode_step=0.025, token=0.0, first=0.006, following=0.0025)
    lengths = [best_length(acceptance, costs, 16) for acceptance in (0.1, 0.6, 0.85, 0.99)]
    assert lengths[0] == 0
    assert lengths == sorted(set(lengths))
    crowded = SharedCosts(decode_step=0.025, token=0.02, first=0.006, following=0.0025)
    assert best_length(0.85, crowded, 16) == 0


def test_speeds_of_waiting_together_and_of_decoding_on_are_those_computed_by_hand() -> None:
    """Half right: rounds of 1 commit 1.5 in 23, of 2 draft tokens 1.75 in 28."""
    costs = SharedCosts(decode_step=20.0, token=1.0, first=2.0, following=4.0)
    assert together_speed(0.5, costs, 16) == pytest.approx(1.5 / 23)
    assert together_speed(0.1, costs, 16) == pytest.approx(1 / 20)
    # On average 2 ordinary steps, then 4/3 that verify two rows more and commit 1.75 each.
    assert meanwhile_speed(0.5, costs, 2) == pytest.approx((2 + 7 / 3) / (20 * 10 / 3 + 8 / 3))
    assert meanwhile_speed(0.0, costs, 2) == meanwhile_speed(0.5, costs, 0) == 1 / 20


def test_streams_that_good_and_bad_drafts_share_are_hardly_slower_than_the_target_alone() -> None:
    """Those that pause have steps between the others', which no longer wait for them."""
    found: list[float] = []
    for seed in (100, 101):
        world = World(0.025, 0.0025, 0.0005, lambda _: 0.8, token_seconds=0.0005, seed=seed)
        bad = replace(world, acceptance=lambda _: 0.2)
        worlds = [(bad if index % 2 else world).of_stream(index) for index in range(8)]
        measurements = DraftMeasurements()
        pacers = [AdaptivePacer(measurements, 16, 1.0) for _ in worlds]
        outcomes = simulate_mixed(worlds, pacers, measurements, TOKENS)
        found += [TOKENS * world.verify_seconds(8) / outcome.seconds for outcome in outcomes]
    assert sum(found) / len(found) > 1.38  # where all waited together it was 1.34
    assert min(found) > 0.9  # 0.87


def test_a_length_stays_while_it_is_nearly_the_best_so_that_all_streams_wait_for_the_same() -> None:
    costs = SharedCosts(decode_step=0.025, token=0.0, first=0.006, following=0.0025)
    best = best_length(0.85, costs, 16)
    assert best_length(0.85, costs, 16, held=best + 1) == best + 1
    assert best_length(0.85, costs, 16, held=1) == best
    assert best_length(0.85, costs, best, held=best + 1) <= best
    assert best_length(0.1, costs, 16, held=best) == 0
