"""When a stream speculates, when it leaves it to the target alone, and when it tries again. Pure.

What a step does then is the Planner's.
"""

from orchestrator.speculation.estimates.acceptance import StreamAcceptance
from orchestrator.speculation.estimates.batch_load import BatchLoad
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.passed_steps import Passed
from orchestrator.speculation.estimates.stream_speed import StreamSpeed
from orchestrator.speculation.pacing.asking import Asking
from orchestrator.speculation.pacing.cost_objective import CostObjective
from orchestrator.speculation.pacing.pacer import Explanation
from orchestrator.speculation.pacing.pausing import Pausing
from orchestrator.speculation.pacing.plan import DraftState, Plan
from orchestrator.speculation.pacing.planner import Planner
from orchestrator.speculation.pacing.stream_costs import LEAST_CHANCE, LEAST_SPEEDUP, StreamCosts
from orchestrator.speculation.reason import DRAFTING, PAUSED, Reason
from paceline.protocol.proposal import DraftToken
from paceline.protocol.verdict import TimedVerdict, Verdict

TRUSTED_ROUNDS = 48
"""Rounds of one stream that pay, after which the draft is benched no longer."""


class AdaptivePacer:
    """Speculation while it pays, the target alone while it does not, probes in between."""

    def __init__(
        self,
        measurements: DraftMeasurements,
        at_most: int,
        max_wait_seconds: float,
        objective: CostObjective | None = None,
        max_branch_tokens: int = 0,
    ) -> None:
        """measurements: what all streams know of the draft. at_most: longest draft of a round.

        max_wait_seconds: bound of a wait for the draft. A draft that is benched is probed, when a
        probe is due; otherwise the stream begins paused. objective: None: time. max_branch_tokens:
        most of a round, beside its draft tokens.
        """
        self._measurements = measurements
        probes = measurements.benched and measurements.probe_is_due
        if probes:
            measurements.begin_probe()  # what was known of draft tokens is forgotten
        self._pausing = Pausing(benched=measurements.benched and not probes)
        self._at_most = at_most
        self._objective = objective
        self._acceptance = StreamAcceptance(measurements.calibration)
        self._load = BatchLoad()
        self._speed = StreamSpeed(measurements)
        self._asking = Asking(measurements.lookup)
        self._costs = StreamCosts(
            measurements, self._acceptance, self._load, self._speed, objective, max_branch_tokens
        )
        self._planner = Planner(
            measurements,
            self._acceptance,
            self._load,
            self._costs,
            self._asking,
            at_most,
            max_wait_seconds,
        )
        self._draft = DraftState(ready=False)
        self._gave_up = self._trusts = False
        self.reason = Reason.MEASURING

    @property
    def eager(self) -> bool:
        """See Pacer. Where crowds lost by it of late a session is opened once it is to be used."""
        waits_for_load = self._measurements.crowds_lose and self._objective is None
        return self._pausing.reason is None and not waits_for_load

    @property
    def rests(self) -> bool:
        """See Pacer. Until a pause is over; a probe begins behind the steps asked for."""
        return self.reason in PAUSED and self._pausing.reason is not None

    @property
    def others(self) -> int:
        """See Pacer."""
        return self._load.others

    def explain(self) -> Explanation:
        """See Pacer. Times in seconds, throughput in tokens per second."""
        numbers = {
            "throughput": self._costs.throughput,
            "token_seconds": self._costs.token_seconds,
            "wait_seconds": self._measurements.wait(restart=False),
            "restart_seconds": self._measurements.wait(restart=True),
            "decode_step_seconds": self._costs.decode_step_seconds,
            "next_chance": self._acceptance.next_chance,
            "speedup": self._costs.speedup,
        }
        known = {name: round(value, 5) for name, value in numbers.items() if value is not None}
        return Explanation({}, known)

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        """See Pacer."""
        self._draft = draft
        self.reason = self._choose(remaining, draft)
        if self.reason not in DRAFTING:
            # While the target decodes on by itself, draft tokens come a step too late.
            remaining = min(remaining, self._pausing.tokens_to_probe)
        return self._planner.plan(self.reason, remaining, draft)

    def _choose(self, remaining: int, draft: DraftState) -> Reason:
        if not draft.ready:
            return Reason.NO_DRAFT
        if draft.free:  # each draft token is weighed; asking for them costs nothing to be saved
            return Reason.SPECULATING
        if draft.shares_cores and self._load.others:
            return Reason.SHARED
        paused = self._pausing.reason
        if paused is Reason.PROBING and self._cannot_pay:
            return Reason.PAUSED_SPEEDUP  # one more cannot tell of anything better
        return paused or self._choose_unpaused(remaining, draft)

    def _choose_unpaused(self, remaining: int, draft: DraftState) -> Reason:
        if self._speed.needs_decode_step(self._load.others):
            return Reason.MEASURING
        if self._cannot_pay and not self._trusts:
            return Reason.PAUSED_BENCHED
        if draft.shares_cores and draft.opening_seconds != 0.0:
            pays = self._costs.is_worth_opening(remaining, draft.opening_seconds)
            return Reason.OPENING if pays else Reason.TOO_SHORT
        return Reason.SPECULATING

    def passed(self, steps: Passed) -> None:
        """See RestingPacer."""
        self._speed.passed(steps)
        self._pausing.count(steps.tokens)

    @property
    def _cannot_pay(self) -> bool:
        """Whether streams that share its steps have found out, at a cost, that it does not."""
        return self._costs.all_are_known_to_lose and not self._goes_by_cost

    def interrupted(self) -> None:
        """See Pacer."""
        self._speed.interrupted()

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        """See Pacer."""
        verdict = timed.verdict
        self._acceptance.observe(draft_tokens, verdict)
        if self._load.observe(verdict):
            self._speed.forget_speedup()
        cost = verdict.cost_model  # None where another target has begun, too
        self._costs.observe_target(cost)
        seconds = self._speed.observe(timed, self.reason, self._load.others)
        if self._planner.waits_together:
            self._measurements.observe_answer(timed, self._load.others)
        if self._draft.free and self.reason is Reason.SPECULATING:
            self._asking.observe(timed, seconds)
        self._follow(verdict)

    def _follow(self, verdict: Verdict) -> None:
        """Pause what does not pay, and go on with what pays again."""
        self._pausing.count(len(verdict.token_ids))
        if self.reason is Reason.PROBING:
            self._follow_probe()
        elif self.reason is Reason.SPECULATING and not self._draft.free:
            useful = verdict.verified > 0 and self._acceptance.next_chance > LEAST_CHANCE
            self._pausing.observe_round(useful=useful)
            self._judge(self._costs.speedup)
        elif self.reason is Reason.PAUSED_COST and self._is_worth_asking():
            self._pausing.go_on()  # at another load the target alone may be too slow
        elif self.reason is Reason.PAUSED_BENCHED and self._pausing.reason is None:
            self._pausing.bench()

    def _follow_probe(self) -> None:
        if not self._pausing.observe_probe():
            return
        if self._is_worth_asking():
            self._pausing.go_on()
        else:
            self._pausing.probe_later()
            self._pause_asking()

    def _judge(self, speedup: float | None) -> None:
        """Pause, or tell others that the draft pays."""
        if self._pausing.has_idled(self._is_worth_asking):
            self._pause_asking()
        elif self._costs.is_slow and not self._goes_by_cost:
            self._pause(Reason.PAUSED_SPEEDUP)
        elif self._speed.speculating_rounds >= TRUSTED_ROUNDS and not self._trusts:
            self._trusts = self._goes_by_cost or (speedup or 0.0) > 1.0 / LEAST_SPEEDUP
            if self._trusts:
                self._measurements.observe_outcome(given_up=False)

    @property
    def _goes_by_cost(self) -> bool:
        """Whether draft lengths are chosen by cost: speculation may be slower than the target."""
        return self._costs.cheapest_length(self._at_most) is not None

    def _is_worth_asking(self) -> bool:
        return self._costs.is_worth_asking(self._at_most, shares_cores=self._draft.shares_cores)

    def _pause_asking(self) -> None:
        self._pause(Reason.PAUSED_COST if self._goes_by_cost else Reason.PAUSED_ACCEPTANCE)

    def _pause(self, reason: Reason) -> None:
        if not (self._gave_up or self._trusts):
            self._measurements.observe_outcome(given_up=True)
        self._gave_up = True
        if self._costs.crowd_loses(self._at_most):
            self._measurements.observe_crowd_that_loses(self._load.others)
        self._pausing.pause(reason)
        self._speed.forget_speedup()
        self._acceptance.doubt()
