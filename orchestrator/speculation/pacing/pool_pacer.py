"""Pacing of a stream that moves between draft pools, by the measurements of its pool. Pure."""

from collections import Counter
from collections.abc import Callable

from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.passed_steps import PassedSteps
from orchestrator.speculation.estimates.round_times import RoundTimes
from orchestrator.speculation.estimates.speedup import SpeedupBlocks
from orchestrator.speculation.pacing.pacer import Explanation, RestingPacer
from orchestrator.speculation.pacing.plan import DraftState, Plan
from orchestrator.speculation.pacing.stream_costs import LEAST_SPEEDUP
from orchestrator.speculation.pool_choice import Holding
from orchestrator.speculation.reason import PAUSED, Reason
from paceline.protocol.proposal import DraftToken
from paceline.protocol.verdict import TimedVerdict

_JUDGES_DRAFT = {
    Reason.SPECULATING,
    Reason.OPENING,
    Reason.PROBING,
    Reason.PAUSED_ACCEPTANCE,
    Reason.PAUSED_COST,
    Reason.PAUSED_SPEEDUP,
}
"""Reasons of rounds that count for a pool's speed-up: its draft was used, or left out as it did not
pay."""
_IDLE = PAUSED | {Reason.PROBING, Reason.NO_DRAFT}
"""Reasons of rounds in which the stream did not speculate with the pool it has."""


class PoolPacer:
    """Has the pacer of whichever pool drafts, and measures the speed-up with that pool.

    A pool has measurements of its own, and counts.
    """

    def __init__(
        self,
        make: Callable[[DraftMeasurements], RestingPacer],
        measurements: DraftMeasurements,
        counts: PoolCounts,
    ) -> None:
        """Begin without a pool. make: a pacer that plans by measurements."""
        self._make = make
        self._steps: Counter[str] = Counter()
        self._round_times = RoundTimes()
        self._pools = 0
        self._passed = PassedSteps()
        self._begin(measurements, counts)

    def use(self, measurements: DraftMeasurements, counts: PoolCounts) -> None:
        """A pool drafts from now on; with the same measurements as before the pacer goes on."""
        if measurements is not self._measurements:
            self.end()
            self._begin(measurements, counts)
            self._pools += 1

    def holding(self, remaining: int, read_tokens: int) -> Holding:
        """What is known for the choice whether to move to another pool."""
        self._count_passed()
        return Holding(
            moves=max(0, self._pools - 1),
            tokens=self._tokens,
            idle_tokens=self._idle_tokens,
            probes=self._probes and self._measurements.probing,
            decode_step_seconds=self._decode_step_seconds,
            remaining=remaining,
            read_tokens=read_tokens,
        )

    def end(self) -> None:
        """The pool drafts no more for this stream. Even a short one says whether its draft pays."""
        self._count_passed()
        self._note_block(full=self._blocks.flush())
        # One that paused says nothing for the draft: it was as fast as the target alone, or nearly.
        pays = self.reason not in _IDLE and self._blocks.at_least(1.0 / LEAST_SPEEDUP)
        if pays:
            self._measurements.observe_outcome(given_up=False)
        if self._probes:
            self._measurements.end_probe()

    def _begin(self, measurements: DraftMeasurements, counts: PoolCounts) -> None:
        self._measurements, self._counts = measurements, counts
        probed = measurements.probing
        self._pacer = self._make(measurements)
        self._probes = measurements.probing and not probed
        self._blocks = SpeedupBlocks(measurements.speedups)
        self._has_planned = self.rests = False
        self._tokens = self._idle_tokens = 0

    @property
    def eager(self) -> bool:
        """See Pacer."""
        return self._pacer.eager

    @property
    def reason(self) -> Reason | None:
        """See Pacer."""
        return self._pacer.reason

    @property
    def others(self) -> int:
        """See Pacer."""
        return self._pacer.others

    def explain(self) -> Explanation:
        """See Pacer. Steps with all pools, numbers with the latest one."""
        self._count_passed()
        return Explanation(dict(self._steps), self._pacer.explain().numbers)

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        """See Pacer. Of most steps of a rest, which are alike, it only counts tokens."""
        if self.rests and self._passed.passes(timed):
            return
        self._count_passed()
        self._learn(timed, draft_tokens)
        self.rests = self._pacer.rests

    def _learn(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        verdict = timed.verdict
        judges = self.reason in _JUDGES_DRAFT
        self._count_steps(1, len(verdict.token_ids))
        self._pacer.observe(timed, draft_tokens)
        if verdict.verified:
            self._measurements.observe_round(verdict)
        seconds = self._round_times.observe(timed)
        decode_step = self._decode_step_seconds
        if judges and seconds is not None and decode_step:
            alone = seconds / decode_step
            self._note_block(full=self._blocks.observe(len(verdict.token_ids), alone))

    def interrupted(self) -> None:
        """See Pacer."""
        self._count_passed()
        self._round_times.interrupted()
        self._pacer.interrupted()

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        """See Pacer."""
        self._count_passed()
        self._has_planned = True
        plan = self._pacer.plan(remaining, draft)
        self.rests = self._pacer.rests
        return plan

    def _count_passed(self) -> None:
        if passed := self._passed.take():
            self._count_steps(passed.steps, passed.tokens)
            self._pacer.passed(passed)
            self._round_times.passed(passed.arrived_seconds)

    def _count_steps(self, steps: int, tokens: int) -> None:
        """So many steps are over, and brought so many tokens."""
        self._tokens += tokens
        if self._has_planned and self.reason is not None:
            self._steps[self.reason.value] += steps
            self._counts.reasons[self.reason.value] += steps
        if self.reason in _IDLE:
            self._idle_tokens += tokens
        elif self.reason in {Reason.SPECULATING, None}:
            self._idle_tokens = 0

    @property
    def _decode_step_seconds(self) -> float | None:
        """An ordinary decode step at this load; None while not known."""
        return self._measurements.decode_step_seconds(self.others)

    def _note_block(self, *, full: bool) -> None:
        if full:
            self._measurements.observe_speedup()
