"""The pacer, in virtual time: the real round and session, between simulated servers."""

import dataclasses
import statistics
from collections.abc import Callable

import pytest

from orchestrator.speculation.estimates.acceptance import StreamAcceptance
from orchestrator.speculation.estimates.batch_load import SHARED_ROUNDS, BatchLoad
from orchestrator.speculation.estimates.measurements import BENCH_STREAMS, DraftMeasurements
from orchestrator.speculation.estimates.speculating_speed import (
    CROWD_ROUNDS,
    LEAST_ROUNDS_OF_EACH,
    MANY,
)
from orchestrator.speculation.estimates.stream_speed import StreamSpeed
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.cost_objective import CostObjective
from orchestrator.speculation.pacing.pacer import FixedPacer
from orchestrator.speculation.pacing.pausing import MAX_PROBE_TOKENS, PROBE_TOKENS
from orchestrator.speculation.pacing.plan import DraftState, WaitWhileWorth, Worth
from orchestrator.speculation.pacing.stream_costs import StreamCosts
from orchestrator.speculation.reason import Reason
from paceline.protocol.proposal import Drafter
from paceline.protocol.session import CostModel, Load
from paceline.protocol.verdict import TimedVerdict, Verdict
from paceline_tools.simulation.run import Outcome, simulate
from paceline_tools.simulation.world import World
from tests.marks import slow

TOKENS = 1500
MOST = 16
# Milliseconds of a step, a draft token and a round trip; speed-ups over the target alone by
# the rule tuned in hindsight, at 0.6 and at 0.85 of the draft tokens right.
TABLE = [
    *slow(
        (25, 2.5, 0.5, 1.70, 3.25),
        (25, 2.5, 20, 1.39, 2.55),
        (25, 2.5, 50, 1.14, 1.95),
        (25, 8, 20, 1.19, 1.76),
    ),
    (77, 20, 20, 1.38, 2.16),
]


def world(
    step: float,
    draft: float,
    round_trip: float,
    acceptance: float | Callable[[int], float],
    **more: float | bool,
) -> World:
    chance = acceptance if callable(acceptance) else lambda _: acceptance
    times = (step / 1e3, draft / 1e3, round_trip / 1e3)
    return World(*times, chance, target_round_trip_seconds=0.0, **more)  # type: ignore[arg-type]


def paced(
    one: World, tokens: int = TOKENS, measurements: DraftMeasurements | None = None
) -> tuple[Outcome, float]:
    """The run, and its speed over that of the target alone."""
    measurements = measurements or DraftMeasurements()
    outcome = simulate(one, AdaptivePacer(measurements, MOST, 1.0), measurements, tokens)
    return outcome, outcome.tokens_per_second * one.step_seconds


def best_fixed(one: World) -> float:
    """Speed has one peak: behind two lengths that are clearly below it none is faster."""
    best, below = 0.0, 0
    for length in (0, 1, 2, 3, 4, 6, 8, 12):
        run = simulate(one, FixedPacer(length, 5.0), DraftMeasurements(), TOKENS)
        best = max(best, run.tokens_per_second)
        below = below + 1 if run.tokens_per_second < 0.95 * best else 0
        if below == 2:
            break
    return best * one.step_seconds


@pytest.mark.parametrize(("step", "draft", "round_trip", "at_60", "at_85"), TABLE)
def test_it_comes_near_the_rule_tuned_in_hindsight_and_beats_every_fixed_length(
    step: float, draft: float, round_trip: float, at_60: float, at_85: float
) -> None:
    for acceptance, expected in ((0.6, at_60), (0.85, at_85)):
        seeds = range(1, 4)
        worlds = [world(step, draft, round_trip, acceptance, seed=seed) for seed in seeds]
        speeds = [paced(one)[1] for one in worlds]
        assert sum(speeds) / len(speeds) > 0.95 * expected
        assert speeds[0] > 0.95 * best_fixed(worlds[0])


@pytest.mark.parametrize("acceptance", [*slow(0.6), 0.85])
def test_branches_hide_most_of_a_long_round_trip(acceptance: float) -> None:
    def speed(round_trip: float, **more: float) -> float:
        worlds = [world(25, 2.5, round_trip, acceptance, seed=seed, **more) for seed in (1, 2, 3)]
        return sum(paced(one)[1] for one in worlds) / len(worlds)

    near = speed(0.5, second_acceptance=0.0)
    assert speed(20, second_acceptance=0.0) < 0.85 * near
    assert speed(20) > 0.9 * near
    assert speed(0.5) > 1.05 * near


@pytest.mark.parametrize("acceptance", [*slow(0.0, 0.2, 0.4, 0.6), 0.8, 0.95])
@pytest.mark.parametrize("draft", [*slow(5, 60, 200), 25])
def test_on_shared_cores_it_is_never_much_slower_than_the_better_of_all_and_nothing(
    acceptance: float, draft: float
) -> None:
    one = world(100, draft, 0.5, acceptance, shares_cores=True, token_seconds=0.002)
    worlds = [dataclasses.replace(one, seed=seed) for seed in range(5)]
    of_better = (paced(each)[1] / max(1.0, best_fixed(each)) for each in worlds)
    assert statistics.fmean(of_better) > 0.95


@pytest.mark.parametrize("shares_cores", [True, False])
def test_a_draft_that_is_never_right_costs_nearly_nothing_and_is_benched(
    shares_cores: bool,
) -> None:
    times = (100, 20, 0.5, 0.0)
    one = world(*times, shares_cores=shares_cores, token_seconds=0.003, second_acceptance=0.0)
    measurements = DraftMeasurements()
    for _ in range(BENCH_STREAMS):
        assert not measurements.benched
        outcome, speed = paced(one, 300, measurements)
        assert speed > 0.95
        assert sum(length > 0 for length in outcome.lengths) < 20
    assert measurements.benched
    outcome, speed = paced(one, MAX_PROBE_TOKENS, measurements)
    assert speed > 0.99
    assert not any(outcome.lengths)


def test_lengths_follow_a_workload_that_turns_and_turns_back() -> None:
    one = world(100, 20, 0.5, lambda at: 0.1 if 600 <= at < 1200 else 0.95, shares_cores=True)
    outcome, _ = paced(one, 2400)

    def mean_length(start: int, stop: int) -> float:
        at = zip(outcome.positions, outcome.lengths, strict=True)
        lengths = [length for position, length in at if start <= position < stop]
        return sum(lengths) / len(lengths)

    assert mean_length(100, 600) > 5
    assert mean_length(700, 1200) < 0.5
    assert mean_length(1800, 2400) > 5


def test_a_good_draft_in_the_place_of_a_bad_one_is_found_within_the_probing_bound() -> None:
    measurements = DraftMeasurements()
    bad = world(25, 2.5, 0.5, 0.0)
    for _ in range(BENCH_STREAMS):
        paced(bad, 300, measurements)
    good = world(25, 2.5, 0.5, 0.9)
    outcome, _ = paced(good, 2 * MAX_PROBE_TOKENS, measurements)
    found = next(
        at for at, length in zip(outcome.positions, outcome.lengths, strict=True) if length
    )
    assert found <= MAX_PROBE_TOKENS + 2
    assert sum(outcome.lengths) > 100


def verdict(load: Load, at: float) -> TimedVerdict:
    return TimedVerdict(Verdict(0, (0,), load=load, cost_model=CostModel(0.02, 0.001)), at)


def reason(pacer: AdaptivePacer, remaining: int, draft: DraftState) -> Reason:
    pacer.plan(remaining, draft)
    return pacer.reason


def test_beside_other_streams_it_does_not_wait_and_leaves_shared_cores_to_them() -> None:
    measurements = DraftMeasurements()
    measurements.observe_decode_step(0.025, 3)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    for step in range(3):
        pacer.observe(verdict(Load(sessions=4, batched_tokens=4), step * 0.025), ())
    assert pacer.plan(100, DraftState(ready=True)).max_wait([], 0.001, 0.0) == 0.0
    assert reason(pacer, 100, DraftState(ready=True)) is Reason.SPECULATING
    assert reason(pacer, 100, DraftState(ready=True, shares_cores=True)) is Reason.SHARED
    measurements.observe_decode_step(0.025, 0)
    for step in range(SHARED_ROUNDS):
        pacer.observe(verdict(Load(sessions=4, batched_tokens=1), 1 + step * 0.025), ())
    assert reason(pacer, 100, DraftState(ready=True, shares_cores=True)) is Reason.SPECULATING


@pytest.mark.parametrize(
    ("draft_seconds", "misses", "meanwhile"),
    [(0.0025, 0, False), (0.0025, 40, True), (0.01, 40, False)],
)
def test_beside_others_that_go_on_by_themselves_no_step_waits_for_a_fast_draft(
    draft_seconds: float, misses: int, *, meanwhile: bool
) -> None:
    measurements, load = DraftMeasurements(), Load(sessions=4, batched_tokens=4)
    measurements.observe_decode_step(0.025, 3)
    for restart in (True, False):
        measurements.observe_wait(draft_seconds, Drafter.MODEL, restart=restart)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    for step in range(3):
        pacer.observe(verdict(load, step * 0.025), ())
    measurements.observe_speculating(1, 0.025, 3)
    late = TimedVerdict(Verdict(5, (1,), step_seconds=0.025, load=load), 0.05, 0.0)
    for _ in range(misses):
        measurements.observe_answer(late, 3)
    plan = pacer.plan(100, DraftState(ready=True))
    assert plan.meanwhile is meanwhile
    if meanwhile:
        assert plan.enough == 8  # as many as come in four fifths of a step
        assert plan.continue_steps == 15


def test_many_streams_that_are_slow_together_pause_at_once_and_do_not_probe() -> None:
    measurements, load = DraftMeasurements(), Load(sessions=MANY, batched_tokens=MANY)
    measurements.observe_decode_step(0.025, MANY - 1)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    pacer.observe(verdict(load, 0.0), ())
    assert reason(pacer, 1000, DraftState(ready=True)) is Reason.SPECULATING
    for _ in range(LEAST_ROUNDS_OF_EACH * MANY):
        measurements.observe_speculating(1, 0.05, MANY - 1)
    for step in range(1, PROBE_TOKENS + 3):
        pacer.observe(verdict(load, step * 0.025), ())
        assert reason(pacer, 1000, DraftState(ready=True)) is Reason.PAUSED_SPEEDUP
    for _ in range(1000):
        measurements.observe_speculating(3, 0.05, MANY - 1)  # it pays for others by now
    assert reason(pacer, 1000, DraftState(ready=True)) is Reason.PROBING


def test_a_run_of_ordinary_steps_ends_where_a_probe_begins() -> None:
    """Else the target is a step ahead of all that the probe asks about."""
    measurements = DraftMeasurements()
    for _ in range(BENCH_STREAMS):
        measurements.observe_outcome(given_up=True)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    assert pacer.plan(1000, DraftState(ready=True)).continue_steps == 15
    for step in range(MAX_PROBE_TOKENS):
        left = MAX_PROBE_TOKENS - step
        assert pacer.plan(1000, DraftState(ready=True)).continue_steps == min(16, left) - 1
        pacer.observe(verdict(Load(sessions=1, batched_tokens=1), step * 0.025), ())
    assert reason(pacer, 1000, DraftState(ready=True)) is Reason.PROBING


def test_a_stream_alone_whose_draft_has_its_own_cores_grants_branches() -> None:
    measurements = DraftMeasurements()
    measurements.observe_decode_step(0.025, 0)
    measurements.observe_decode_step(0.025, 3)
    for shares_cores, sessions, granted in ((False, 1, True), (True, 1, False), (False, 4, False)):
        pacer = AdaptivePacer(measurements, MOST, 1.0)
        pacer.observe(verdict(Load(sessions=sessions, batched_tokens=sessions), 0.0), ())
        draft = DraftState(ready=True, shares_cores=shares_cores)
        assert bool(pacer.plan(100, draft).branches) is granted
        assert bool(FixedPacer(4, 1.0).plan(100, draft).branches) is not shares_cores


def test_lookup_that_seldom_answers_is_waited_for_where_that_takes_next_to_no_time() -> None:
    worth = Worth(StreamAcceptance(DraftMeasurements().calibration), token_cost=50.0 * 0.005)
    rule = WaitWhileWorth(worth, MOST, second_cost=50.0, max_wait_seconds=1.0, hit_rate=0.1)
    # A tenth of what a draft token brings, its cost paid: (0.85 - 0.25) / 10 tokens, or 1.2 ms.
    assert rule.max_wait([], 0.001, 0.0) > 0.0
    assert rule.max_wait([], 0.0015, 0.0) == 0.0
    pacer = AdaptivePacer(DraftMeasurements(), MOST, 1.0)
    assert pacer.plan(100, DraftState(ready=True, free=True)).ngram_lookahead == 2 * MOST


def observed(pacer: AdaptivePacer, tokens: int, at: float, token_seconds: float) -> None:
    """A verdict of a stream alone that brought so many tokens."""
    one = Verdict(0, (0,) * tokens, cost_model=CostModel(0.1, token_seconds))
    pacer.observe(TimedVerdict(one, at), ())


def throughput(pacer: AdaptivePacer) -> float:
    return pacer.explain().numbers["throughput"]


def test_before_a_stream_has_a_throughput_it_has_that_of_others_or_of_decode_steps() -> None:
    measurements = DraftMeasurements()
    assert throughput(AdaptivePacer(measurements, MOST, 1.0)) == 0.0
    measurements.observe_decode_step(0.1, 0)
    measurements.observe_speculating(tokens=10, seconds=1.0, others=0)  # it did not pay
    assert throughput(AdaptivePacer(measurements, MOST, 1.0)) == pytest.approx(10.0)
    measurements.observe_speculating(tokens=50, seconds=1.0, others=0)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    assert throughput(pacer) == pytest.approx(30.0, rel=0.01)
    observed(pacer, 1, 0.0, 0.005)
    assert throughput(pacer) == pytest.approx(30.0, rel=0.01)
    observed(pacer, 5, 0.1, 0.005)
    assert throughput(pacer) == pytest.approx(50.0)


def test_a_draft_has_credit_while_the_target_works_however_expensive_verification_is() -> None:
    measurements = DraftMeasurements()
    measurements.observe_decode_step(0.1, 0)
    lookaheads = []
    for token_seconds in (0.0, 0.005):
        pacer = AdaptivePacer(measurements, MOST, 1.0)
        pacer.plan(100, DraftState(ready=True))
        observed(pacer, 1, 0.0, token_seconds)
        observed(pacer, 5, 0.1, token_seconds)
        lookaheads.append(pacer.plan(100, DraftState(ready=True)).lookahead)
    assert lookaheads[0] == lookaheads[1] > MOST


def test_a_long_prompt_is_not_read_by_the_draft_for_a_short_rest() -> None:
    measurements = DraftMeasurements()
    measurements.observe_decode_step(0.1, 0)
    measurements.observe_opening(prompt_tokens=100, seconds=0.5)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    cold = DraftState(
        ready=True, shares_cores=True, opening_seconds=measurements.opening_seconds(400)
    )
    assert reason(pacer, 8, cold) is Reason.TOO_SHORT
    assert reason(pacer, 400, cold) is Reason.OPENING


def test_a_draft_that_once_missed_its_time_is_used_again_as_soon_as_it_delivers() -> None:
    measurements = DraftMeasurements()
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    assert reason(pacer, 100, DraftState(ready=False)) is Reason.NO_DRAFT
    for shares_cores in (True, False):
        assert pacer.plan(100, DraftState(ready=False, shares_cores=shares_cores)).lookahead > 0


def test_beside_others_a_draft_that_missed_its_time_is_asked_for_one_token() -> None:
    pacer = AdaptivePacer(DraftMeasurements(), MOST, 1.0)
    assert pacer.plan(100, DraftState(ready=False)).lookahead > 1
    pacer.observe(verdict(Load(sessions=8, batched_tokens=8), 1.0), ())
    assert pacer.plan(100, DraftState(ready=False)).lookahead == 1


def crowd_that_lost() -> DraftMeasurements:
    """Of MANY streams one was as slow as all, and paused."""
    measurements, crowd = DraftMeasurements(), MANY - 1
    for others in (0, crowd):
        measurements.observe_decode_step(0.025, others)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    pacer.observe(verdict(Load(sessions=MANY, batched_tokens=MANY), 0.0), ())
    assert reason(pacer, 1000, DraftState(ready=True)) is Reason.SPECULATING
    for _ in range(LEAST_ROUNDS_OF_EACH * MANY):
        measurements.observe_speculating(1, 0.05, crowd)
    pacer.observe(verdict(Load(sessions=MANY, batched_tokens=MANY), 0.025), ())
    assert reason(pacer, 1000, DraftState(ready=True)) is Reason.PAUSED_SPEEDUP
    return measurements


def test_where_a_crowd_lost_a_stream_opens_no_session_before_it_knows_its_load() -> None:
    """Each session costs a draft that all have too little of; a crowd begins stream by stream."""
    assert AdaptivePacer(DraftMeasurements(), MOST, 1.0).eager
    measurements = crowd_that_lost()
    assert not measurements.benched
    assert not AdaptivePacer(measurements, MOST, 1.0).eager
    assert AdaptivePacer(measurements, MOST, 1.0, CostObjective(4.0, 0.5)).eager


@pytest.mark.parametrize(
    ("sessions", "expected"), [(MANY, Reason.PAUSED_BENCHED), (1, Reason.SPECULATING)]
)
def test_a_stream_does_not_find_out_what_a_crowd_has_learned_but_a_few_do(
    sessions: int, expected: Reason
) -> None:
    pacer = AdaptivePacer(crowd_that_lost(), MOST, 1.0)
    pacer.observe(verdict(Load(sessions=sessions, batched_tokens=sessions), 1.0), ())
    assert reason(pacer, 1000, DraftState(ready=True)) is expected


def test_what_a_crowd_has_learned_is_forgotten_after_a_while() -> None:
    measurements = crowd_that_lost()
    measurements.count(MANY, CROWD_ROUNDS * MANY - 2)
    assert measurements.crowds_lose
    measurements.count(MANY, 2)
    assert not measurements.crowds_lose


def test_a_stream_of_a_crowd_that_gives_up_for_its_own_text_tells_the_others_nothing() -> None:
    """Nor do a few streams that give up together."""
    for others, tells in ((MANY - 1, True), (MANY - 2, False)):
        measurements = DraftMeasurements()
        measurements.observe_decode_step(0.025, others)
        measurements.observe_wait(0.002, Drafter.MODEL, restart=True)
        measurements.observe_wait(0.002, Drafter.MODEL, restart=False)
        costs = StreamCosts(
            measurements,
            StreamAcceptance(measurements.calibration),
            (load := BatchLoad()),
            StreamSpeed(measurements),
            None,
            0,
        )
        load.observe(Verdict(0, (0,), load=Load(sessions=others + 1, batched_tokens=others + 1)))
        assert not costs.crowd_loses(MOST)  # at the acceptance rate of all it pays
        measurements.observe_wait(10.0, Drafter.MODEL, restart=True)
        measurements.observe_wait(10.0, Drafter.MODEL, restart=True)
        assert costs.crowd_loses(MOST) is tells


def test_a_stream_that_began_among_a_few_pauses_when_they_are_a_crowd_that_lost() -> None:
    measurements = DraftMeasurements()
    for others in (0, MANY - 1):
        measurements.observe_decode_step(0.025, others)
    measurements.observe_crowd_that_loses(MANY - 1)
    pacer = AdaptivePacer(measurements, MOST, 1.0)
    for sessions, expected in ((1, Reason.SPECULATING), (MANY, Reason.PAUSED_BENCHED)):
        pacer.observe(verdict(Load(sessions=sessions, batched_tokens=sessions), 1.0), ())
        assert reason(pacer, 1000, DraftState(ready=True)) is expected
