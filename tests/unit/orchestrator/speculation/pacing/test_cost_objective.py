"""Cost under a bound of latency: optima by hand, and the pacer in virtual time."""

import asyncio
import math

import pytest

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.cost_objective import CostObjective
from orchestrator.speculation.pacing.draft_length import SharedCosts
from paceline_tools.simulation.clock import in_virtual_time
from paceline_tools.simulation.draft import SimulatedDraft
from paceline_tools.simulation.run import Outcome, SimulatedServers, run_stream, simulate_crowd
from paceline_tools.simulation.target import SimulatedTarget
from paceline_tools.simulation.world import World

MOST = 16
HAND = SharedCosts(decode_step=20.0, token=0.0, first=2.0, following=4.0)
"""At an acceptance of 0.5 rounds of 0 to 4 draft tokens commit 1, 1.5, 1.75, 1.875, 1.9375."""


@pytest.mark.parametrize(
    ("draft_price", "length"),
    [
        (0.0, 4),  # the more tokens the cheaper, up to as many as there may be
        (0.25, 3),  # 20, 21 / 1.5 = 14, 22 / 1.75 = 12.6, 23 / 1.875 = 12.3, 24 / 1.9375 = 12.4
        (1.0, 1),  # 20, 24 / 1.5 = 16, 28 / 1.75 = 16 as well, 32 / 1.875 = 17.1
        (2.0, 1),  # 20, 28 / 1.5 = 18.7, 36 / 1.75 = 20.6
        (3.0, 0),  # 20, 32 / 1.5 = 21.3
    ],
)
def test_the_cheapest_length_is_that_computed_by_hand(draft_price: float, length: int) -> None:
    assert CostObjective(1.0, draft_price).length(0.5, HAND, 4) == length
    assert CostObjective(7.0, 7.0 * draft_price).length(0.5, HAND, 4) == length


@pytest.mark.parametrize(
    ("draft_price", "seconds", "length"),
    [
        # A token takes 20, 22 * 1.1 / 1.5 = 16.13, 26 * 1.1 / 1.75 = 16.34, 30 * 1.1 / 1.875 = 17.6
        (3.0, 20.0, 0),
        (3.0, 19.0, 1),  # expensive, and the target alone too slow
        (0.0, 16.2, 1),  # longer ones would be cheaper
        (0.0, 17.0, 2),
        (3.0, 16.0, None),
    ],
)
def test_only_lengths_within_the_bound_are_compared(
    draft_price: float, seconds: float, length: int | None
) -> None:
    assert CostObjective(1.0, draft_price, seconds).length(0.5, HAND, 4) == length


def test_verification_counts_with_what_it_takes_the_streams_that_share_the_step() -> None:
    """(20 + 8) / 1.5 = 18.7 and (20 + 16) / 1.75 = 20.6; with a token of 11: 31 / 1.5 = 20.7."""
    for token, length in ((0.0, 4), (8.0, 1), (11.0, 0)):
        costs = SharedCosts(20.0, token, 2.0, 4.0)
        assert CostObjective(1.0, 0.0).length(0.5, costs, 4) == length


def test_a_length_stays_while_it_is_nearly_the_cheapest_and_within_the_bound() -> None:
    objective = CostObjective(1.0, 0.25)
    assert objective.length(0.5, HAND, 4, held=2) == 2
    assert objective.length(0.5, HAND, 4, held=1) == 3
    assert CostObjective(1.0, 0.25, 16.2).length(0.5, HAND, 4, held=2) == 1


def crowd(
    objective: CostObjective | None, streams: int = 1, acceptance: float = 0.8, tokens: int = 800
) -> list[Outcome]:
    world = World(0.025, 0.0025, 0.0005, lambda _: acceptance, token_seconds=0.0005)
    measurements = DraftMeasurements()
    pacers = [AdaptivePacer(measurements, MOST, 1.0, objective) for _ in range(streams)]
    return simulate_crowd(world, pacers, measurements, tokens)


def mean_length(outcome: Outcome) -> float:
    """Of the later half, when everything is known."""
    later = outcome.lengths[len(outcome.lengths) // 2 :]
    return sum(later) / len(later)


def token_seconds(outcome: Outcome) -> float:
    return outcome.seconds / outcome.tokens


@pytest.mark.parametrize("streams", [1, 8])
def test_a_cheap_draft_is_asked_for_long_drafts_and_an_expensive_one_for_none(streams: int) -> None:
    lengths, drafted = [], []
    for draft_price in (0.01, 3.0, 20.0):
        [outcome, *_] = crowd(CostObjective(1.0, draft_price), streams)
        lengths.append(mean_length(outcome))
        drafted.append(outcome.drafted / outcome.tokens)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 3.0  # by the formula 11 alone, 4 beside seven others
    assert 1.0 < lengths[1] < 4.0  # 3 and 2
    assert lengths[2] < 0.1  # 0: only probes
    assert drafted[1] < 1.2
    assert drafted[2] < 0.15


@pytest.mark.parametrize("streams", [1, 8])
def test_a_bound_that_the_target_alone_misses_has_an_expensive_draft_asked(streams: int) -> None:
    [free, *_] = crowd(CostObjective(1.0, 20.0), streams)
    [bound, *_] = crowd(CostObjective(1.0, 20.0, 0.024), streams)
    assert token_seconds(free) > 0.024
    assert token_seconds(bound) < 0.024
    assert 0.8 < mean_length(bound) < 1.2  # the least that keeps it
    assert bound.drafted < 0.8 * bound.tokens


@pytest.mark.parametrize("streams", [1, 8])
@pytest.mark.parametrize("draft_price", [0.01, 20.0])
def test_a_bound_that_cannot_be_kept_is_paced_as_by_time(streams: int, draft_price: float) -> None:
    assert crowd(CostObjective(1.0, draft_price, 0.001), streams) == crowd(None, streams)


def test_an_expensive_draft_is_asked_once_the_target_alone_is_too_slow_at_the_load() -> None:
    """Alone a step takes 25 ms; beside seven others 28.5."""
    world = World(0.025, 0.0025, 0.0005, lambda _: 0.8, token_seconds=0.0005)
    objective, measurements = CostObjective(1.0, 20.0, 0.027), DraftMeasurements()

    async def runs() -> Outcome:
        servers = SimulatedServers(SimulatedTarget(world), SimulatedDraft(world))

        async def one(index: int, at: float, tokens: int) -> Outcome:
            await asyncio.sleep(at)
            pacer = AdaptivePacer(measurements, MOST, 1.0, objective)
            own = world.of_stream(index)
            return await run_stream(own, servers, pacer, measurements, tokens)

        others = [asyncio.create_task(one(index, 10.0, 600)) for index in range(1, 8)]
        first = await one(0, 0.0, 800)
        await asyncio.gather(*others)
        return first

    first = in_virtual_time(runs())
    by_time = list(zip(first.arrivals, first.lengths, strict=True))
    alone = [length for at, length in by_time if 2.0 < at < 9.5]
    beside = [length for at, length in by_time if at > 12.0]
    assert sum(alone) < 0.1 * len(alone)
    assert sum(beside) > 0.7 * len(beside)


@pytest.mark.parametrize(
    ("streams", "acceptance", "more", "rounds", "verified", "drafted", "seconds"),
    [
        (1, 0.8, {}, 142, 787, 4730, 4.461),
        (1, 0.3, {}, 373, 516, 8217, 10.3795),
        (1, 0.7, {"shares_cores": True}, 197, 580, 580, 7.053),
        (1, 0.3, {"free": True}, 371, 536, 8137, 10.423),
        (4, 0.8, {}, 626, 2321, 6208, 6.997),
        (4, 0.3, {}, 1571, 938, 6841, 12.35206),
    ],
)
def test_by_time_everything_is_as_it_was_before_there_was_another_objective(
    streams: int,
    acceptance: float,
    more: dict[str, bool],
    rounds: int,
    verified: int,
    drafted: int,
    seconds: float,
) -> None:
    times = (0.025, 0.0025, 0.0005)
    world = World(*times, lambda _: acceptance, token_seconds=0.0005, **more)  # type: ignore[arg-type]
    measurements = DraftMeasurements()
    pacers = [AdaptivePacer(measurements, MOST, 1.0) for _ in range(streams)]
    found = simulate_crowd(world, pacers, measurements, 500)
    assert sum(len(one.lengths) for one in found) == rounds
    assert sum(sum(one.lengths) for one in found) == verified
    assert sum(one.drafted for one in found) == drafted
    assert math.isclose(max(one.seconds for one in found), seconds, rel_tol=1e-9)
