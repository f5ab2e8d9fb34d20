"""What is measured of the steps: how many, the last one, the pace, the cost of a row. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from paceline.engine.core.cost import CostFit
from paceline.engine.interfaces import Span
from paceline.protocol.session import CostModel


@dataclass(frozen=True, slots=True)
class StepMeasurement:
    """A step that was made. seconds: of the forward pass."""

    rows: int
    sessions: int
    seconds: float


class StepStatistics:
    """Figures of the steps so far; times are in seconds, on any one clock."""

    def __init__(self) -> None:
        """Begin before the first step."""
        self._cost = CostFit()
        self.steps = 0
        self.rows = 0  # of the last step
        self.seconds = 0.0  # of its forward pass
        self.ended = 0.0  # when that ended
        self.pace = 0.0
        """Seconds from the end of a step to the end of the next, while they follow each other."""

    @property
    def cost_model(self) -> CostModel | None:
        """What a step takes by its rows; None until there were enough steps."""
        return self._cost.model

    def observe(self, spans: Sequence[Span], started: float, ended: float) -> StepMeasurement:
        """One more step of `spans`, whose forward pass took from `started` to `ended`."""
        seconds = ended - started
        self.pace = seconds + min(started - self.ended, seconds)
        rows = sum(span.rows for span in spans)
        if all(span.logit_rows for span in spans):  # a piece of a prompt costs less
            self._cost.observe(rows, seconds, sum(len(span.branches) for span in spans))
        self.steps += 1
        self.rows, self.seconds, self.ended = rows, seconds, ended
        return StepMeasurement(rows, len(spans), seconds)
