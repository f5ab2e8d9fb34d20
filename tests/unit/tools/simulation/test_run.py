"""One simulation for one stream and for many: by the rules of the engine and of the draft."""

import dataclasses

import pytest

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.pacer import FixedPacer
from paceline_tools.simulation.run import Outcome, simulate, simulate_crowd
from paceline_tools.simulation.world import PromptCosts, World

STEP, DRAFT, ROW = 0.025, 0.0025, 0.001
ALWAYS = World(STEP, DRAFT, 0.0, lambda _: 1.0, target_round_trip_seconds=0.0)


def of(world: World, length: int, streams: int, tokens: int) -> list[Outcome]:
    pacers = [FixedPacer(length, 5.0) for _ in range(streams)]
    return simulate_crowd(world, pacers, DraftMeasurements(), tokens)


def test_a_crowd_of_one_is_the_single_stream_and_every_run_is_the_same() -> None:
    world = World(STEP, DRAFT, 0.01, lambda _: 0.7, token_seconds=ROW, seed=3)
    alone = simulate(world, FixedPacer(4, 5.0), DraftMeasurements(), 200)
    assert [alone] == of(world, 4, 1, 200)
    assert alone.tokens == 200
    assert alone.drafted > 200


def test_a_stream_alone_waits_for_nobody_and_pays_each_step_and_its_rows() -> None:
    [alone] = of(ALWAYS, 0, 1, 50)
    assert alone.seconds == pytest.approx(50 * STEP)
    assert alone.lengths == [0] * 50
    in_turns = dataclasses.replace(ALWAYS, token_seconds=ROW, shares_cores=True)
    [run] = of(in_turns, 4, 1, 51)
    assert run.lengths == [0] + [4] * 10
    assert run.seconds == pytest.approx(STEP + 10 * (4 * DRAFT + STEP + 4 * ROW))


@pytest.mark.parametrize("length", [0, 4])
def test_streams_share_steps(length: int) -> None:
    world = dataclasses.replace(ALWAYS, target_round_trip_seconds=0.001, round_trip_seconds=0.001)
    [alone] = of(world, length, 1, 200)
    many = of(world, length, 8, 200)
    assert all(run.tokens == 200 for run in many)
    assert max(run.seconds for run in many) < 1.1 * alone.seconds


def test_streams_have_draft_tokens_of_their_own_and_one_orchestrator() -> None:
    world = World(STEP, DRAFT, 0.001, lambda _: 0.5)
    first, second = of(world, 4, 2, 200)
    assert first.positions != second.positions
    busy = dataclasses.replace(world, handling_seconds=0.005)
    slower = of(busy, 0, 2, 100)
    assert sum(run.seconds for run in slower) > sum(run.seconds for run in of(world, 0, 2, 100))


def test_a_prompt_takes_its_time_once_on_both_servers() -> None:
    world = dataclasses.replace(ALWAYS, prompt=PromptCosts(100, 2.0, 1.0), shares_cores=True)
    [alone] = of(world, 0, 1, 20)
    assert alone.seconds == pytest.approx(2.0 + 20 * STEP)
    [run] = of(world, 4, 1, 21)
    assert run.seconds == pytest.approx(2.0 + STEP + 1.0 + 4 * (4 * DRAFT + STEP))


def test_branches_are_rows_of_the_same_steps_and_off_where_a_row_is_expensive() -> None:
    world = World(STEP, DRAFT, 0.02, lambda _: 0.6, seed=1)
    [free] = of(world, 4, 1, 300)
    [none] = of(dataclasses.replace(world, second_acceptance=0.0), 4, 1, 300)
    assert free.seconds < 0.95 * none.seconds
    [expensive] = of(dataclasses.replace(world, draft_token_seconds=DRAFT / 2), 4, 1, 300)
    assert expensive.drafted < 0.8 * free.drafted
