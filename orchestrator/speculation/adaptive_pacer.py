"""Pacing: when to speculate, when to leave it to the target alone, when to try again. Pure.

What a single round does with draft tokens is orchestrator.speculation.plan.
"""

import enum
import math
from collections import Counter

from orchestrator.speculation.acceptance import StreamAcceptance
from orchestrator.speculation.draft_length import LATE, Costs, best_length
from orchestrator.speculation.measurements import DraftMeasurements, load_class
from orchestrator.speculation.pacer import Explanation
from orchestrator.speculation.plan import (
    BRANCHES,
    DraftState,
    Plan,
    WaitForCount,
    WaitWhileWorth,
    Worth,
    target_only_steps,
)
from orchestrator.speculation.round_times import Intervals
from paceline.averages import Rate
from paceline.protocol.proposal import DraftToken
from paceline.protocol.verdict import TimedVerdict, Verdict

CATCH_UP = 1.25
"""What waiting costs where the draft works while the target does: an ordinary decode step is no
loss to it."""
IDLE_ROUNDS, MAX_IDLE_ROUNDS = 6, 64
"""Rounds without a draft token worth verifying, after which the stream stops asking: where none is
expected, and where some should have come."""
PROBE_ROUNDS = 2
"""Rounds of a probe."""
PROBE_TOKENS, MAX_PROBE_TOKENS = 48, 384
"""Tokens between probes: at first, and after many in vain."""
PROBE_LENGTH = 2
"""Longest draft of a probe."""
UNKNOWN_SPEEDUP = 1.3
"""What speculation brings, before it was measured."""
UNKNOWN_OPENING_TOKENS = 16
"""Tokens to go that make it worth finding out what the draft's prompt costs."""
TRUSTED_ROUNDS = 48
"""Rounds that pay, in one stream, which clear a draft's name."""
SHARED_ROUNDS = 8
"""Rounds for which a step shared with others is remembered."""
LOOKAHEAD_CHANCE, SHARED_LOOKAHEAD_CHANCE = 0.02, 0.2
"""How likely a draft token must be for the draft to make it ahead of time: alone, and beside
others, whom the draft serves meanwhile."""
LEAST_CHANCE = 0.1
"""A draft whose draft tokens are right less often only costs its owner."""
LEAST_SPEEDUP, LEAST_SPEEDUP_BESIDE_OTHERS = 0.96, 0.88
"""A stream that measures less pauses; less than 1, as measures scatter. Beside others more is left
to the length they all wait for, which is chosen by what is known of all."""
THROUGHPUT_MEMORY, SPEEDUP_MEMORY = 20.0, 80.0
"""Latest rounds of a stream that count."""
SPEEDUP_ROUNDS = 40
"""Rounds after which a stream trusts its own measure of what speculation brings."""


class Reason(enum.Enum):
    """Why the next step is planned as it is."""

    NO_DRAFT = "no draft is there, or it missed its time"
    MEASURING = "measuring the target alone"
    SPECULATING = "draft tokens pay"
    SHARED = "other streams need the cores that draft and target share"
    TOO_SHORT = "what remains is too short to pay for the draft's prompt"
    OPENING = "waiting for the draft's first draft token"
    PAUSED_ACCEPTANCE = "paused: draft tokens are too seldom right"
    PAUSED_BENCHED = "paused: other streams gave this draft up"
    PAUSED_SPEEDUP = "paused: slower than the target alone"
    PROBING = "probing"


_DRAFTING = {Reason.SPECULATING, Reason.PROBING, Reason.OPENING}


class AdaptivePacer:
    """Speculation while it pays, the target alone while it does not, probes in between."""

    def __init__(
        self, measurements: DraftMeasurements, at_most: int, max_wait_seconds: float
    ) -> None:
        """`record`: what all streams know of the draft. at_most: longest draft of a round.

        max_wait_seconds: bound of a wait for the draft.
        """
        self._measurements = measurements
        self._at_most = at_most
        self._max_wait_seconds = max_wait_seconds
        self._rate = Rate(THROUGHPUT_MEMORY)
        self._speedup = Rate(SPEEDUP_MEMORY)
        self._intervals = Intervals()
        self._others, self._shared_rounds = 0, SHARED_ROUNDS
        self._decode_run = self._measure_left = 0
        self._shares_cores = self._free = False
        self._token_seconds = 0.0
        self._rounds = self._idle = 0
        self._probe_after = PROBE_TOKENS
        self._since_probe = self._probe_left = 0
        self._paused: Reason | None = None
        self._gave_up = self._trusts = False
        if measurements.benched and not measurements.may_probe():
            self._paused, self._probe_after = Reason.PAUSED_BENCHED, MAX_PROBE_TOKENS
        self._acceptance = StreamAcceptance(
            measurements.calibration
        )  # which a probe has begun anew
        self.reason = Reason.MEASURING
        self.reasons: Counter[Reason] = Counter()

    @property
    def eager(self) -> bool:
        """See Pacer."""
        return self._paused is None

    def explain(self) -> Explanation:
        """See Pacer. Times in seconds; price in tokens per second; gain over decode steps."""
        numbers = {
            "throughput": self.throughput,
            "token_seconds": self._token_seconds,
            "wait_seconds": self._measurements.wait(restart=False),
            "restart_seconds": self._measurements.wait(restart=True),
            "decode_step_seconds": self._measurements.decode_step_seconds(self._others),
            "next_chance": self._acceptance.next_chance,
            "speedup": self.speedup,
        }
        known = {name: round(value, 5) for name, value in numbers.items() if value is not None}
        return Explanation({reason.value: n for reason, n in self.reasons.items()}, known)

    @property
    def throughput(self) -> float:
        """Tokens per second: what a second is worth. With others in the batch, all of theirs."""
        return self._own_throughput * (1 + self._others)

    @property
    def _own_throughput(self) -> float:
        """Of the stream; before its first rounds what others came to, or decode steps do."""
        if self._rate.value is not None:
            return self._rate.value
        plain = self._measurements.decode_step_seconds(self._others)
        return max(1.0, self._measurements.speculating_speedup or 1.0) / plain if plain else 0.0

    @property
    def speedup(self) -> float | None:
        """Speed of this stream's rounds over that of decode steps; None while not known."""
        plain = self._measurements.decode_step_seconds(self._others)
        if plain is None or self._speedup.value is None or self._rounds < SPEEDUP_ROUNDS:
            return None
        return self._speedup.value * plain

    @property
    def others(self) -> int:
        """Streams that share the target's steps."""
        return self._others

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        """See Pacer."""
        verdict = timed.verdict
        self._acceptance.observe(draft_tokens, verdict)
        self._look_around(verdict)
        cost = verdict.cost_model  # None where another target has begun, too
        self._token_seconds = cost.token_seconds if cost is not None else 0.0
        self._time(timed)
        self._follow(verdict)

    def interrupted(self) -> None:
        """See Pacer."""
        self._intervals.interrupted()
        self._decode_run = 0

    def _look_around(self, verdict: Verdict) -> None:
        """See whether steps are shared with others; in some they may have missed their turn."""
        if verdict.load.batched_tokens > verdict.verified + 1:
            self._shared_rounds = SHARED_ROUNDS
        self._shared_rounds -= self._shared_rounds > 0
        others = max(0, verdict.load.sessions - 1) if self._shared_rounds else 0
        if load_class(others) != load_class(self._others):
            self._speedup, self._rounds = Rate(SPEEDUP_MEMORY), 0
        self._others = others

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        """See Pacer."""
        at_most = max(0, min(self._at_most, remaining - 1))
        self._shares_cores, self._free = draft.shares_cores, draft.free
        self.reason = self._choose(remaining, draft)
        self.reasons[self.reason] += 1
        lookahead = 0 if draft.shares_cores else self._lookahead
        if not at_most or self.reason not in _DRAFTING:
            return self._target_only_plan(remaining, lookahead)
        if self.reason is Reason.SPECULATING:
            return self._speculating_plan(at_most, lookahead, draft)
        return self._first_token_plan(at_most, lookahead, draft)

    def _first_token_plan(self, at_most: int, lookahead: int, draft: DraftState) -> Plan:
        bound = self._max_wait_seconds + 2.0 * (draft.opening_seconds or 0.0)
        most = at_most if self.reason is Reason.OPENING else min(at_most, PROBE_LENGTH)
        return Plan(
            most,
            WaitForCount(1, bound),
            lookahead=min(lookahead, PROBE_LENGTH),
            ngram_lookahead=most,
        )

    def _target_only_plan(self, remaining: int, lookahead: int) -> Plan:
        measuring = self.reason is Reason.MEASURING
        steps = min(1, remaining - 1) if measuring else target_only_steps(remaining)
        # A draft that missed its time keeps its credit: it shows by delivering that it lives.
        credit = max(lookahead, 1) if self.reason is Reason.NO_DRAFT else 0
        return Plan(0, lookahead=credit, continue_steps=steps)

    def _speculating_plan(self, at_most: int, lookahead: int, draft: DraftState) -> Plan:
        if self._others and not draft.free:
            return self._shared_plan(at_most, lookahead)
        wait_factor = 1.0 if draft.shares_cores else CATCH_UP
        worth = self._worth
        waiting = WaitWhileWorth(
            worth,
            at_most,
            second_cost=self._own_throughput * wait_factor,
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

    def _shared_plan(self, at_most: int, lookahead: int) -> Plan:
        """All streams wait for as many draft tokens, and LATE times as long as these take."""
        # By what all streams know, so that all come to the same.
        acceptance = self._measurements.calibration.mean.value
        costs = self._shared_costs
        enough = best_length(acceptance, costs, at_most, self._measurements.shared_length)
        if at_most == self._at_most:
            self._measurements.shared_length = enough
        ahead = max(lookahead, enough)
        waiting = WaitForCount(enough, LATE * costs.wait(enough), in_all=True)
        return Plan(at_most, waiting, self._worth, ahead, ngram_lookahead=max(ahead, at_most))

    @property
    def _worth(self) -> Worth:
        return Worth(self._acceptance, self.throughput * self._token_seconds)

    @property
    def _shared_costs(self) -> Costs:
        return Costs(
            decode_step=self._measurements.decode_step_seconds(self._others) or math.inf,
            token=self._token_seconds * (1 + self._others),
            first=self._measurements.wait(restart=True) or 0.0,
            following=self._measurements.wait(restart=False) or 0.0,
        )

    @property
    def _lookahead(self) -> int:
        """How far ahead draft tokens have a chance worth the draft's time.

        Their rows count only beside others: a row is paid when a draft token is verified, where it
        is weighed again, and a draft without credit is idle for the whole of a step.
        """
        chance = min(self._acceptance.next_chance, 0.99)
        row = self.throughput * self._token_seconds
        worth = max(SHARED_LOOKAHEAD_CHANCE, row) if self._others else LOOKAHEAD_CHANCE
        depth = math.log(worth) / math.log(chance) if worth < chance else 1.0
        return min(2 * self._at_most, math.ceil(depth) + 1)

    def _choose(self, remaining: int, draft: DraftState) -> Reason:
        if not draft.ready:
            return Reason.NO_DRAFT
        if draft.free:  # each draft token is weighed; asking for them costs nothing to be saved
            return Reason.SPECULATING
        if draft.shares_cores and self._others:
            return Reason.SHARED
        if self._paused is not None:
            probing = self._probe_left or self._since_probe >= self._probe_after
            return Reason.PROBING if probing else self._paused
        return self._choose_unpaused(remaining, draft)

    def _choose_unpaused(self, remaining: int, draft: DraftState) -> Reason:
        if self._measure_left or self._measurements.target.decode_step_is_stale(self._others):
            return Reason.MEASURING
        if draft.shares_cores and draft.opening_seconds != 0.0:
            affordable = self._pays_opening(remaining, draft.opening_seconds)
            return Reason.OPENING if affordable else Reason.TOO_SHORT
        return Reason.SPECULATING

    def _pays_opening(self, remaining: int, seconds: float | None) -> bool:
        """Whether what remains saves more than the draft's prompt costs."""
        if seconds is None:
            return remaining >= UNKNOWN_OPENING_TOKENS
        measured = self._measurements.speculating_speedup or 0.0
        # One that brought nothing so far is given up by the rounds, not here: it is tried again.
        speedup = measured if measured > 1.0 / LEAST_SPEEDUP else UNKNOWN_SPEEDUP
        saved = (
            remaining * (self._measurements.decode_step_seconds(0) or 0.0) * (1.0 - 1.0 / speedup)
        )
        return saved > seconds

    def _time(self, timed: TimedVerdict) -> None:
        """Learn what a second is worth, and what an ordinary decode step takes."""
        tokens = len(timed.verdict.token_ids)
        seconds = self._intervals.observe(timed)
        self._measurements.count(tokens)
        if seconds is None:
            return
        self._rate.observe(tokens, seconds)
        if self.reason not in _DRAFTING:
            self._plain(seconds)
            return
        self._decode_run = 0
        if self.reason is Reason.SPECULATING:
            self._speedup.observe(tokens, seconds)
            self._rounds += 1
            if not self._others:
                self._measurements.observe_speculating(tokens, seconds)

    def _plain(self, seconds: float) -> None:
        """An ordinary decode step. Only one behind another tells what the target alone takes."""
        if self.reason is Reason.MEASURING:
            self._measure_left = 0 if self._measure_left else 1
        if self._decode_run:
            self._measurements.observe_decode_step(seconds, self._others)
        self._decode_run += 1

    def _follow(self, verdict: Verdict) -> None:
        """Pause what does not pay, and go on with what pays again."""
        self._since_probe += len(verdict.token_ids)
        if self.reason is Reason.PROBING:
            self._probe()
        elif self.reason is Reason.SPECULATING and not self._free:
            useful = verdict.verified and self._acceptance.next_chance > LEAST_CHANCE
            self._idle = 0 if useful else self._idle + 1
            if self._has_idled:
                self._pause(Reason.PAUSED_ACCEPTANCE)
            elif self.speedup is not None and self.speedup < self._least_speedup:
                self._pause(Reason.PAUSED_SPEEDUP)
            elif self._rounds >= TRUSTED_ROUNDS and not self._trusts:
                self._trusts = (self.speedup or 0.0) > 1.0 / LEAST_SPEEDUP
                if self._trusts:
                    self._measurements.observe_outcome(given_up=False)

    @property
    def _has_idled(self) -> bool:
        """Whether so many rounds had nothing worth verifying that the stream had better not ask."""
        if self._idle < IDLE_ROUNDS:
            return False
        return self._idle >= MAX_IDLE_ROUNDS or not self._worth_asking

    @property
    def _least_speedup(self) -> float:
        return LEAST_SPEEDUP_BESIDE_OTHERS if self._others else LEAST_SPEEDUP

    def _pause(self, reason: Reason) -> None:
        if not (self._gave_up or self._trusts):
            self._measurements.observe_outcome(given_up=True)
        self._gave_up = True
        self._paused = reason
        self._since_probe = self._idle = self._rounds = 0
        self._speedup = Rate(SPEEDUP_MEMORY)
        self._acceptance.doubt()

    def _probe(self) -> None:
        """A round of a probe: after the last one, go on or pause for longer."""
        self._probe_left = (self._probe_left or PROBE_ROUNDS) - 1
        if self._probe_left:
            return
        if self._worth_asking:
            self._paused, self._probe_after = None, PROBE_TOKENS
        else:
            self._probe_after = min(2 * self._probe_after, MAX_PROBE_TOKENS)
            self._pause(Reason.PAUSED_ACCEPTANCE)

    @property
    def _worth_asking(self) -> bool:
        """Whether a first token is worth its cost: a wait only where draft and target alternate.

        At the price of time without speculation: that is what a pause would go back to.
        """
        if self._others and not self._shares_cores:
            # A stream that is luckier than all together is not yet better.
            chance = min(self._acceptance.next_chance, self._measurements.calibration.mean.value)
            return best_length(chance, self._shared_costs, self._at_most) > 0
        wait = (self._measurements.wait(restart=True) or 0.0) if self._shares_cores else 0.0
        plain = self._measurements.decode_step_seconds(self._others)
        throughput = (1 + self._others) / plain if plain else self.throughput
        worth = throughput * (wait + self._token_seconds)
        return self._acceptance.next_chance > max(worth, LEAST_CHANCE)
