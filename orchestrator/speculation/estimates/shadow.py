"""What a candidate draft would have had accepted, measured along outputs that others made. Pure."""

import math
from dataclasses import dataclass

from paceline.averages import Mean
from paceline.protocol.session import CostModel
from paceline.protocol.status import Interval

_Z = 1.96
LEAST_OUTPUTS = 8
"""Outputs before there is an interval: of fewer the spread is not known."""


@dataclass(slots=True)
class ShadowedOutput:
    """What a draft came to along one output.

    rounds: how often it was asked; silent: of these, without a draft token. judged: draft tokens up
    to the first wrong one of each round, that one included; accepted: of these, right.
    """

    tokens: int = 0
    rounds: int = 0
    silent: int = 0
    judged: int = 0
    accepted: int = 0

    def judge(self, drafted: tuple[int, ...], true: tuple[int, ...]) -> int:
        """Count a round of these draft tokens; returns how many tokens it would have decided.

        true: what the target picked there, one token more than drafted unless the output ends.
        """
        pairs = zip(drafted, true, strict=False)
        wrong = next((at for at, (token, right) in enumerate(pairs) if token != right), None)
        accepted = min(len(drafted), len(true)) if wrong is None else wrong
        decided = min(accepted + 1, len(true))
        self.rounds += 1
        self.silent += not drafted
        self.judged += accepted + (wrong is not None)
        self.accepted += accepted
        self.tokens += decided
        return decided


class ShadowMeasurements:
    """Sums over outputs, and mean times. Outputs are the units: tokens of one are alike."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.outputs = 0
        self.total = ShadowedOutput()
        self.restart, self.step = Mean(), Mean()
        self.target_step, self.verify_token = Mean(), Mean()
        self._squares = [0.0, 0.0, 0.0]  # of accepted, of judged, and their product

    def observe(self, output: ShadowedOutput) -> None:
        """One output more, whole or as far as the draft came."""
        self.outputs += 1
        for name in ShadowedOutput.__slots__:
            setattr(self.total, name, getattr(self.total, name) + getattr(output, name))
        accepted, judged = output.accepted, output.judged
        added = (accepted * accepted, judged * judged, accepted * judged)
        self._squares = [old + new for old, new in zip(self._squares, added, strict=True)]

    def observe_target(self, step_seconds: float | None, cost: CostModel | None) -> None:
        """What the target took for an output, from token to token if it decoded alone, else a step.

        Where neither is known nothing is learned.
        """
        if cost is not None:
            self.verify_token.observe(cost.token_seconds)
            step_seconds = step_seconds or cost.step_seconds + cost.token_seconds
        if step_seconds is not None:
            self.target_step.observe(step_seconds)

    @property
    def acceptance(self) -> Interval | None:
        """Share of judged draft tokens that are right, with an interval of 95 % over outputs.

        None while no draft token was judged; the interval is all there is while outputs are few.
        A ratio estimate: Cochran, Sampling Techniques, 1977, 6.3.
        """
        if not self.total.judged:
            return None
        rate = self.total.accepted / self.total.judged
        if self.outputs < LEAST_OUTPUTS:
            return Interval(rate, 0.0, 1.0)
        accepted, judged, product = self._squares
        spread = max(0.0, accepted - 2 * rate * product + rate * rate * judged)
        # Never narrower than that of independent tokens: outputs that are all alike say no more.
        independent = self.total.judged * max(rate * (1.0 - rate), 1.0 / self.total.judged)
        spread = max(spread * self.outputs / (self.outputs - 1), independent)
        half = _Z * math.sqrt(spread) / self.total.judged
        return Interval(rate, max(0.0, rate - half), min(1.0, rate + half))

    @property
    def draft_rate(self) -> float:
        """Share of rounds in which there was a draft token."""
        total = self.total
        return 1.0 - total.silent / total.rounds if total.rounds else 0.0
