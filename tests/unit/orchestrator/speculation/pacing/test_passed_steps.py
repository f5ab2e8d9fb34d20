"""A stream that rests: most of its steps are only counted, and nothing comes out otherwise."""

import pytest

from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import BENCH_STREAMS, DraftMeasurements
from orchestrator.speculation.estimates.passed_steps import MOST_PASSED, PassedSteps
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.pausing import MAX_PROBE_TOKENS
from orchestrator.speculation.pacing.plan import DraftState
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from orchestrator.speculation.reason import Reason
from paceline.protocol.proposal import DraftToken
from paceline.protocol.session import Load
from paceline.protocol.verdict import TimedVerdict, Verdict

STEP = 0.025
READY = DraftState(ready=True)


class Watched(AdaptivePacer):
    """Counts the verdicts that it learns of."""

    learned = 0

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        self.learned += 1
        super().observe(timed, draft_tokens)


class Resting:
    """A stream of a benched draft, behind the pacer of its pools."""

    def __init__(self) -> None:
        self.measurements, self.counts = DraftMeasurements(), PoolCounts()
        for _ in range(BENCH_STREAMS):
            self.measurements.observe_outcome(given_up=True)
        self.made: list[Watched] = []
        self.pacer = PoolPacer(self._make, self.measurements, self.counts)
        self.now, self.owed, self.steps = 100.0, 0, 0

    def _make(self, measurements: DraftMeasurements) -> AdaptivePacer:
        self.made.append(Watched(measurements, 16, 1.0))
        return self.made[-1]

    def step(self, seconds: float = STEP) -> Reason | None:
        """One step of the target, planned as the round does; returns why it was made."""
        if not (self.owed and self.pacer.rests):
            self.owed = 1 + self.pacer.plan(2000, READY).continue_steps
        reason = self.pacer.reason
        self.now, self.owed, self.steps = self.now + seconds, self.owed - 1, self.steps + 1
        one = Verdict(0, (7,), step_seconds=STEP, load=Load(sessions=1, batched_tokens=1))
        self.pacer.observe(TimedVerdict(one, self.now), ())
        return reason

    def until_probing(self) -> int:
        """Tokens before the first probe."""
        while self.step() is not Reason.PROBING:
            assert self.steps <= MAX_PROBE_TOKENS
        return self.steps - 1


def test_most_steps_of_a_rest_are_only_counted() -> None:
    resting = Resting()
    for _ in range(64):
        resting.step()
    assert resting.made[0].learned <= 64 / (1 + MOST_PASSED) + 64 / 16
    assert resting.made[0].learned >= 64 / (1 + MOST_PASSED)


def test_a_probe_comes_after_as_many_tokens_as_if_each_step_had_been_learned_of() -> None:
    assert Resting().until_probing() == MAX_PROBE_TOKENS


def test_counts_are_whole_when_the_stream_ends_or_whenever_anybody_asks() -> None:
    resting = Resting()
    for _ in range(37):
        resting.step()
    assert resting.pacer.explain().steps == {"paused_benched": 37}
    assert resting.pacer.holding(100, 0).idle_tokens == 37
    for _ in range(4):
        resting.step()
    resting.pacer.end()
    assert resting.counts.reasons == {"paused_benched": 41}
    assert (resting.measurements.target.tokens, resting.measurements.target.rounds) == (41, 41)


def test_what_is_learned_of_a_step_is_what_that_one_took() -> None:
    """Not the time since the one before that was learned of."""
    resting = Resting()
    for _ in range(100):
        resting.step()
    assert resting.measurements.decode_step_seconds(0) == pytest.approx(STEP)


def test_the_time_over_an_interruption_is_still_left_out() -> None:
    resting = Resting()
    for _ in range(35):
        resting.step()
    resting.pacer.interrupted()
    resting.step(0.2)
    for _ in range(40):
        resting.step()
    assert resting.measurements.decode_step_seconds(0) == pytest.approx(STEP)


def test_a_verdict_on_draft_tokens_is_never_only_counted() -> None:
    passed = PassedSteps()
    assert not passed.passes(TimedVerdict(Verdict(0, (7, 7), 1, 1), 1.0))
    assert passed.take() is None
    assert [passed.passes(TimedVerdict(Verdict(0, (7,)), 1.0)) for _ in range(9)] == (
        [True] * MOST_PASSED + [False] * 2
    )
    taken = passed.take()
    assert taken is not None
    assert (taken.steps, taken.tokens) == (MOST_PASSED, MOST_PASSED)
