"""What is learned of times: nothing of those in which a server was lost, or a process stalled."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.backends import target_failover
from orchestrator.backends.draft_link import DraftLink
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.draft_session import NOTHING
from orchestrator.backends.pool import Pool
from orchestrator.backends.target_failover import TargetLink
from orchestrator.serving.event_buffer import BUFFER_BYTES
from orchestrator.serving.stream_statistics import StreamStatistics
from orchestrator.speculation.drafting.draft_buffer import Offer
from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import (
    BENCH_PROBE_TOKENS,
    BENCH_STREAMS,
    DraftMeasurements,
)
from orchestrator.speculation.estimates.round_times import RoundTimes
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.plan import DraftState, Plan
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from orchestrator.speculation.reason import Reason
from paceline.averages import Mean
from paceline.engine.core.cost import CostFit
from paceline.errors import Unavailable
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.session import CostModel, Load
from paceline.protocol.verdict import TimedVerdict, Verdict
from tests.unit.orchestrator.serving.test_output import emit, make_stream

STEP = 0.025
LONG = 4.0
ALONE, DRAFTS = DraftState(ready=False), DraftState(ready=True)


def verdict(at: float, tokens: int = 1, asked: float = 0.0) -> TimedVerdict:
    one = Verdict(
        0,
        (7,) * tokens,
        tokens - 1,
        tokens - 1,
        step_seconds=STEP,
        load=Load(sessions=1, batched_tokens=tokens),
        cost_model=CostModel(0.02, 0.001),
    )
    return TimedVerdict(one, at, asked)


class Driven:
    """A stream's pacer with a clock, and what all know of times."""

    def __init__(self) -> None:
        self.measurements = DraftMeasurements()
        self.pacer = PoolPacer(
            lambda one: AdaptivePacer(one, 16, 1.0), self.measurements, PoolCounts()
        )
        self.now = 100.0

    def steps(self, count: int, seconds: float = STEP, draft: DraftState = ALONE) -> None:
        tokens = 3 if draft.ready else 1
        for _ in range(count):
            self.pacer.plan(500, draft)
            self.now += seconds
            self.pacer.observe(verdict(self.now, tokens), ())

    @property
    def decode_step(self) -> float | None:
        return self.measurements.decode_step_seconds(0)


def interrupted(driven: Driven) -> None:
    driven.pacer.interrupted()
    driven.steps(1, LONG)


def stopped(driven: Driven) -> None:
    driven.steps(1, LONG)


def stopped_and_read_at_once(driven: Driven) -> None:
    driven.steps(1, LONG)
    driven.steps(15, 0.0001)


def read_at_once_behind_an_interruption(driven: Driven) -> None:
    driven.pacer.interrupted()
    driven.steps(1, LONG)
    driven.steps(15, 0.0001)


@pytest.mark.parametrize(
    "happens",
    [interrupted, stopped, stopped_and_read_at_once, read_at_once_behind_an_interruption],
)
def test_no_decode_step_is_learned_of_a_time_in_which_something_stalled(
    happens: Callable[[Driven], None],
) -> None:
    driven = Driven()
    driven.steps(20)
    happens(driven)
    assert driven.decode_step == pytest.approx(STEP)
    driven.steps(3)
    assert driven.decode_step == pytest.approx(STEP)


@pytest.mark.parametrize("happens", [interrupted, stopped])
def test_nor_does_a_draft_lose_or_gain_by_it(happens: Callable[[Driven], None]) -> None:
    """Three tokens a round: a speed-up of 3, which two outages of 4 s would leave far below 1."""
    driven = Driven()
    driven.steps(20)
    driven.steps(50, draft=DRAFTS)
    before = driven.pacer.explain().numbers["throughput"]
    for _ in range(2):
        driven.pacer.plan(500, DRAFTS)
        happens(driven)
        driven.steps(40, draft=DRAFTS)
    numbers = driven.pacer.explain().numbers
    assert driven.pacer.reason is Reason.SPECULATING
    assert numbers["throughput"] == pytest.approx(before, rel=0.05)
    assert numbers["speedup"] == pytest.approx(3.0, rel=0.05)
    driven.pacer.end()
    assert not driven.measurements.benched
    assert driven.measurements.speculating_speedup == pytest.approx(3.0, rel=0.05)


def test_steps_that_stay_long_are_what_they_take_by_now() -> None:
    driven = Driven()
    driven.steps(20)
    driven.steps(40, LONG)
    assert driven.decode_step == pytest.approx(LONG, rel=0.1)


def test_a_wait_for_the_draft_counts_however_long_it_is() -> None:
    intervals = RoundTimes()
    for step in range(10):
        intervals.observe(verdict(step * STEP))
    asked = 9 * STEP + LONG
    assert intervals.observe(verdict(asked + STEP, asked=asked)) == pytest.approx(LONG + STEP)


def test_the_cost_of_verification_is_that_of_the_target_at_hand() -> None:
    measurements = DraftMeasurements()
    pacer = AdaptivePacer(measurements, 16, 1.0)
    pacer.observe(verdict(0.0), ())
    assert pacer.explain().numbers["token_seconds"] == 0.001
    pacer.interrupted()
    pacer.observe(TimedVerdict(Verdict(0, (0,)), 9.0), ())
    assert pacer.explain().numbers["token_seconds"] == 0.0


def test_a_step_in_which_the_machine_slept_costs_nothing_to_know() -> None:
    fit = CostFit()
    for rows in [1, 4, 2, 8, 1, 5, 16, 3, 2, 9]:
        fit.observe(rows, 0.080 + 0.002 * rows)
    before = fit.model
    fit.observe(2, LONG)
    assert fit.model == before


def test_waits_and_openings_are_learned_without_the_times_somebody_slept() -> None:
    measurements = DraftMeasurements()
    for _ in range(5):
        measurements.observe_wait(0.02, Drafter.MODEL, restart=False)
        measurements.observe_opening(100, 0.5)
    measurements.observe_wait(LONG, Drafter.MODEL, restart=False)
    measurements.observe_opening(100, 50.0)
    assert measurements.wait(restart=False) == pytest.approx(0.02)
    assert measurements.opening_seconds(200) == pytest.approx(1.0)


def test_short_times_may_scatter_as_they_like() -> None:
    mean = Mean()
    assert all(mean.observe(value) for value in (0.001, 0.2, 0.001, 0.2))


def test_a_round_over_an_interruption_is_in_no_statistic_of_rounds() -> None:
    statistics = StreamStatistics(0.0)
    for at in (1.0, 1.1):
        statistics.observe(verdict(at, 3), 0.0)
    statistics.interrupted()
    for at in (6.0, 6.1):
        statistics.observe(verdict(at, 3), 0.0)
    assert statistics.round_seconds == pytest.approx([0.1, 0.1])
    assert statistics.result().decode_seconds == pytest.approx(5.1)
    assert statistics.result().rounds == 4


async def test_a_client_that_does_not_read_interrupts_and_one_that_does_not() -> None:
    stream, event_buffer = make_stream(max_tokens=100)
    told: list[bool] = []
    stream.on_interruption = lambda: told.append(True)
    emit(stream, verdict(1.0))
    await stream.room()
    assert not told
    event_buffer._waiting = BUFFER_BYTES

    async def drains() -> None:
        event_buffer._waiting = 0
        event_buffer._drained.set()

    await asyncio.gather(stream.room(), drains())
    assert told


async def test_a_lost_target_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven()
    driven.steps(20)
    stream, _ = make_stream(max_tokens=2)
    stream.on_interruption = driven.pacer.interrupted
    tries: list[int] = []

    async def follow(*_: object) -> None:
        tries.append(1)
        driven.steps(1, LONG if len(tries) == 2 else STEP)
        stream.emit(verdict(driven.now))
        if len(tries) == 1:
            raise Unavailable("it was killed")

    monkeypatch.setattr(TargetLink, "_follow_any", follow)
    monkeypatch.setattr(target_failover, "_PAUSE_SECONDS", 0.0)
    deadline = asyncio.get_running_loop().time() + 60
    draft: Any = None
    await TargetLink(Pool(()), draft, driven.pacer, stream.opening, stream, deadline).run()
    assert len(tries) == 2
    driven.steps(2)
    assert driven.decode_step == pytest.approx(STEP)


async def test_a_draft_that_is_lost_while_a_round_waits_for_it_interrupts() -> None:
    stream, _ = make_stream()
    told: list[bool] = []
    pacer = SimpleNamespace(interrupted=lambda: told.append(True))
    made: Any = (DraftRouter({}), pacer, None, stream.opening, stream)
    drafting = DraftLink(*made, lookahead=None, seconds=1.0)

    class Session:
        waited_seconds = 1.0
        lost = False

        async def take(self, plan: object) -> Offer:
            if self.lost:
                drafting._session = None
            return NOTHING

    session: Any = Session()
    plan = Plan(1)
    for session.lost in (False, True):
        drafting._session = session
        await drafting.take(plan)
        assert bool(told) is session.lost


def test_a_stream_that_paused_says_nothing_for_the_draft_however_fast_it_was() -> None:
    for pauses in (True, False):
        driven = Driven()
        driven.steps(20)
        for _ in range(BENCH_STREAMS):
            driven.measurements.observe_outcome(given_up=True)
        driven.steps(3, draft=DRAFTS)
        if pauses:
            driven.pacer._pacer._pausing.pause(Reason.PAUSED_SPEEDUP)  # type: ignore[attr-defined]
        driven.steps(10, STEP / 2, DRAFTS)
        driven.pacer.end()
        assert driven.measurements.benched is pauses


@pytest.mark.parametrize("rounds", [0, 10])
def test_a_short_stream_for_which_it_pays_comes_between_two_that_gave_it_up(rounds: int) -> None:
    """Most outputs are shorter than it takes to trust a draft: of these none was counted."""
    driven = Driven()
    driven.steps(20)
    driven.measurements.observe_outcome(given_up=True)
    driven.steps(3, draft=DRAFTS)
    driven.steps(rounds, STEP / 2, DRAFTS)
    driven.pacer.end()
    driven.measurements.observe_outcome(given_up=True)
    assert driven.measurements.benched is (rounds == 0)


def test_who_tries_a_benched_draft_judges_by_nothing_that_was_known_of_it() -> None:
    measurements = DraftMeasurements()
    sure = DraftToken(0, 10.0, Drafter.MODEL)
    paused = AdaptivePacer(measurements, 16, 1.0)
    for _ in range(400):
        measurements.calibration.observe(sure, accepted=False)
    for _ in range(20):
        measurements.observe_wait(0.2, Drafter.MODEL, restart=True)
        measurements.observe_opening(100, 5.0)
    for _ in range(BENCH_STREAMS):
        measurements.observe_outcome(given_up=True)
    assert measurements.benched
    measurements.count(BENCH_PROBE_TOKENS)
    prober = AdaptivePacer(measurements, 16, 1.0)
    assert measurements.probing
    assert prober._acceptance.next_chance > 0.8
    for pacer in (prober, paused, AdaptivePacer(measurements, 16, 1.0)):
        assert pacer._acceptance.chance(sure) > 0.9
    measurements.observe_wait(0.002, Drafter.MODEL, restart=True)
    measurements.observe_opening(100, 0.01)
    assert measurements.wait(restart=True) == pytest.approx(0.002)
    assert measurements.opening_seconds(100) == pytest.approx(0.01)


def test_after_a_pause_the_first_wait_counts_however_long_it_is() -> None:
    mean = Mean()
    for _ in range(5):
        mean.observe(0.01)
    mean.doubt()
    assert mean.observe(LONG)
    assert mean.value == LONG
