"""How fast one stream is: its throughput, and its speed-up over ordinary decode steps. Pure."""

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.passed_steps import Passed
from orchestrator.speculation.estimates.round_times import RoundTimes
from orchestrator.speculation.reason import DRAFTING, Reason
from paceline.averages import Rate
from paceline.protocol.verdict import TimedVerdict, Verdict

THROUGHPUT_MEMORY, SPEEDUP_MEMORY = 20.0, 80.0
"""Latest rounds of a stream that count."""
SPEEDUP_ROUNDS = 40
"""Rounds after which a stream trusts its own measurement of its speed-up."""


class StreamSpeed:
    """Measures one stream's rounds. What an ordinary decode step takes is measured for all.

    `others`: streams that share the target's steps.
    """

    def __init__(self, measurements: DraftMeasurements) -> None:
        """measurements: what all streams know."""
        self._measurements = measurements
        self._round_times = RoundTimes()
        self._throughput = Rate(THROUGHPUT_MEMORY)
        self._speculating = Rate(SPEEDUP_MEMORY)
        self.speculating_rounds = 0
        """Those of which the speed-up is measured."""
        self._decode_steps = 0  # one behind the other
        self._is_measuring = False

    def throughput(self, others: int) -> float:
        """Tokens per second; before the first rounds what others reached, or decode steps do."""
        if self._throughput.value is not None:
            return self._throughput.value
        step = self._measurements.decode_step_seconds(others)
        return max(1.0, self._measurements.speculating_speedup or 1.0) / step if step else 0.0

    def speedup(self, others: int) -> float | None:
        """Speed of speculating rounds over that of decode steps; None while not known."""
        step, rate = self._measurements.decode_step_seconds(others), self._speculating.value
        if step is None or rate is None or self.speculating_rounds < SPEEDUP_ROUNDS:
            return None
        return rate * step

    def needs_decode_step(self, others: int) -> bool:
        """Whether an ordinary decode step has to be measured, or is being measured."""
        return self._is_measuring or self._measurements.target.decode_step_is_stale(others)

    def forget_speedup(self) -> None:
        """Measure the speed-up anew: the load is another one, or the stream paused."""
        self._speculating, self.speculating_rounds = Rate(SPEEDUP_MEMORY), 0

    def interrupted(self) -> None:
        """See Pacer."""
        self._round_times.interrupted()
        self._decode_steps = 0

    def passed(self, steps: Passed) -> None:
        """See Pacer."""
        self._round_times.passed(steps.arrived_seconds)
        self._measurements.count(steps.tokens, steps.steps)

    def observe(self, timed: TimedVerdict, reason: Reason, others: int) -> float | None:
        """A verdict came, of a step that was planned for this reason.

        Returns seconds since the one before, None where they do not count.
        """
        verdict = timed.verdict
        seconds = self._round_times.observe(timed)
        self._measurements.count(len(verdict.token_ids))
        if seconds is not None:
            self._observe_round(verdict, seconds, reason, others)
        return seconds

    def _observe_round(self, verdict: Verdict, seconds: float, reason: Reason, others: int) -> None:
        tokens = len(verdict.token_ids)
        self._throughput.observe(tokens, seconds)
        if reason not in DRAFTING:
            self._observe_decode_step(seconds, reason, others, pure=verdict.load.only_decodes)
            return
        self._decode_steps = 0
        if reason is Reason.SPECULATING:
            self._observe_speculating(tokens, seconds, others)

    def _observe_speculating(self, tokens: int, seconds: float, others: int) -> None:
        self._speculating.observe(tokens, seconds)
        self.speculating_rounds += 1
        self._measurements.observe_speculating(tokens, seconds, others)

    def _observe_decode_step(
        self, seconds: float, reason: Reason, others: int, *, pure: bool
    ) -> None:
        """Only one behind another tells what the target alone takes: two are measured."""
        if reason is Reason.MEASURING:
            self._is_measuring = not self._is_measuring
        if self._decode_steps:
            self._measurements.observe_decode_step(seconds, others, pure=pure)
        self._decode_steps += 1
