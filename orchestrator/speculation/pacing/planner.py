"""The plan of a stream's next step, once it is decided why it speculates or does not. Pure."""

import math

from orchestrator.speculation.estimates.acceptance import StreamAcceptance
from orchestrator.speculation.estimates.batch_load import BatchLoad
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.asking import Asking
from orchestrator.speculation.pacing.draft_length import (
    LATE,
    SharedCosts,
    best_length,
    meanwhile_speed,
    together_speed,
)
from orchestrator.speculation.pacing.plan import (
    BRANCHES,
    DraftState,
    Plan,
    WaitForCount,
    WaitWhileWorth,
    target_only_steps,
)
from orchestrator.speculation.pacing.stream_costs import StreamCosts
from orchestrator.speculation.reason import DRAFTING, Reason

PROBE_LENGTH = 2
"""Longest draft of a probe."""
LOOKAHEAD_CHANCE, SHARED_LOOKAHEAD_CHANCE = 0.02, 0.2
"""How likely a draft token must be for the draft to make it ahead of time: alone, and beside
others, whom the draft serves meanwhile."""
STEP_SHARE = 0.8
"""Of an ordinary decode step: draft tokens that come later do not reach the next one."""
LEAST_MEANWHILE = 3
"""Of so many that come within a step the first stands where that step decides. Of a draft that is
slower too little is left."""
MEANWHILE_SPEEDUP = 1.1
"""What is expected of it over waiting together, where that works: the formula leaves out delays."""


class Planner:
    """Plans for one stream."""

    def __init__(
        self,
        measurements: DraftMeasurements,
        acceptance: StreamAcceptance,
        load: BatchLoad,
        costs: StreamCosts,
        asking: Asking,
        at_most: int,
        max_wait_seconds: float,
    ) -> None:
        """at_most: longest draft of a round. max_wait_seconds: bound of a wait for the draft."""
        self._measurements = measurements
        self._acceptance = acceptance
        self._load = load
        self._costs = costs
        self._asking = asking
        self._at_most = at_most
        self._max_wait_seconds = max_wait_seconds
        self.waits_together = False
        """Whether the latest step waits for as many draft tokens as the others' do."""

    def plan(self, reason: Reason, remaining: int, draft: DraftState) -> Plan:
        """The next step of a stream that has `remaining` tokens to go; see Pacer."""
        self.waits_together = False
        at_most = max(0, min(self._at_most, remaining - 1))
        lookahead = 0 if draft.shares_cores else self._lookahead
        if not at_most or reason not in DRAFTING:
            # Beside others a draft that is late delivers one token more: theirs are due.
            return _target_only(reason, remaining, 1 if self._load.others else lookahead)
        if reason is not Reason.SPECULATING:
            most = at_most if reason is Reason.OPENING else min(at_most, PROBE_LENGTH)
            return self._for_first_token(most, lookahead, draft)
        if not draft.free and (cheapest := self._costs.cheapest_length(at_most)) is not None:
            return self._of_length(cheapest, self._costs.shared, at_most)
        if self._load.others and not draft.free:
            return self._beside_others(at_most, remaining, lookahead)
        if draft.free and not self._asking.decide():
            return self._by_the_way(at_most, remaining)
        return self._alone(at_most, lookahead, draft)

    def _for_first_token(self, at_most: int, lookahead: int, draft: DraftState) -> Plan:
        """It is waited for, whatever it is worth."""
        longest = self._max_wait_seconds + 2.0 * (draft.opening_seconds or 0.0)
        waiting = WaitForCount(1, longest, measured=True)
        ahead = min(lookahead, PROBE_LENGTH)
        return Plan(at_most, waiting, lookahead=ahead, ngram_lookahead=at_most)

    def _alone(self, at_most: int, lookahead: int, draft: DraftState) -> Plan:
        """Draft tokens are waited for and verified while they are worth it."""
        worth = self._costs.worth
        waiting = WaitWhileWorth(
            worth,
            at_most,
            second_cost=self._costs.wait_second(shares_cores=draft.shares_cores),
            max_wait_seconds=self._max_wait_seconds,
            hit_rate=draft.hit_rate,
        )
        return Plan(
            at_most,
            waiting,
            worth,
            lookahead,
            # What this round verifies and the next: it is there when the verdict comes.
            ngram_lookahead=max(lookahead, 2 * at_most),
            branches=0 if draft.shares_cores else BRANCHES,
        )

    def _by_the_way(self, at_most: int, remaining: int) -> Plan:
        """The target decodes on, and no wait for lookup's answer costs it anything."""
        worth = self._costs.worth
        waiting = WaitWhileWorth(worth, at_most, 0.0, self._max_wait_seconds)
        steps = target_only_steps(remaining)
        return Plan(at_most, waiting, worth, ngram_lookahead=2 * at_most, continue_steps=steps)

    def _beside_others(self, at_most: int, remaining: int, lookahead: int) -> Plan:
        """All wait together, or none: the target decodes on while the draft is at work."""
        costs = self._costs.shared
        window = STEP_SHARE * (self._costs.decode_step_seconds or 0.0)
        lengths = range(1, min(at_most, lookahead) + 1)
        enough = sum(costs.wait(length) <= window for length in lengths)
        few = enough < LEAST_MEANWHILE
        self.waits_together = few or self._is_better_together(costs, enough, at_most)
        if self.waits_together:
            return self._as_all_others(costs, at_most, lookahead)
        return Plan(
            at_most,
            WaitForCount(enough, window, in_all=True, meanwhile=True),
            self._costs.worth,
            lookahead,
            ngram_lookahead=max(lookahead, at_most),
            continue_steps=target_only_steps(remaining),
        )

    def _is_better_together(self, costs: SharedCosts, enough: int, at_most: int) -> bool:
        """Where one goes on by itself it has a step between two of those who wait."""
        if not self._measurements.is_in_step(self._load.others):
            return False
        acceptance = self._measurements.calibration.mean.value
        together = together_speed(acceptance, costs, at_most)
        return MEANWHILE_SPEEDUP * together >= meanwhile_speed(acceptance, costs, enough)

    def _as_all_others(self, costs: SharedCosts, at_most: int, lookahead: int) -> Plan:
        """All streams wait for as many draft tokens."""
        # By what all streams know, so that all come to the same.
        acceptance = self._measurements.calibration.mean.value
        held = self._measurements.shared_length
        enough = best_length(acceptance, costs, at_most, held)
        return self._of_length(enough, costs, at_most, max(lookahead, enough))

    def _of_length(self, length: int, costs: SharedCosts, at_most: int, ahead: int = 0) -> Plan:
        """So many draft tokens are waited for, and LATE times as long as these take."""
        if self._load.others and at_most == self._at_most:
            self._measurements.shared_length = length
        waiting = WaitForCount(length, LATE * costs.wait(length), in_all=True)
        return Plan(at_most, waiting, self._costs.worth, ahead, ngram_lookahead=max(ahead, at_most))

    @property
    def _lookahead(self) -> int:
        """How far ahead draft tokens have a chance worth the draft's time.

        Their verification costs only beside others: it is paid when a draft token is verified,
        where it is weighed again, and a draft without credit is idle for the whole of a step.
        """
        chance = min(self._acceptance.next_chance, 0.99)
        least = LOOKAHEAD_CHANCE
        if self._load.others:
            least = max(SHARED_LOOKAHEAD_CHANCE, self._costs.worth.token_cost)
        depth = math.log(least) / math.log(chance) if least < chance else 1.0
        return min(2 * self._at_most, math.ceil(depth) + 1)


def _target_only(reason: Reason, remaining: int, lookahead: int) -> Plan:
    measuring = reason is Reason.MEASURING
    steps = min(1, remaining - 1) if measuring else target_only_steps(remaining)
    # A draft that missed its time keeps its credit: it shows by delivering that it lives.
    credit = max(lookahead, 1) if reason is Reason.NO_DRAFT else 0
    return Plan(0, lookahead=credit, continue_steps=steps)
