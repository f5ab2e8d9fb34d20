"""The cost of a step by its rows and branches, fitted online."""

from paceline.averages import DecayedSums, Mean, Stalls
from paceline.protocol.session import CostModel

_DECAY = 0.98
_ENOUGH = 8
_FADE = 0.998
"""Of what a branch is thought to cost, in each step without one: it is tried again some day."""


class CostFit:
    """Least squares of seconds over rows; older steps weigh less, about the last 50 count.

    Of a step with branches it is learned what each of them adds to that, as a row of a branch may
    cost more than one of a span: attention reads the keys once more for each branch.
    """

    def __init__(self) -> None:
        """Begin with no steps."""
        self._steps = 0
        self._stalls = Stalls()
        # Of 1, rows, seconds, rows squared, rows times seconds.
        self._sums = DecayedSums(5, _DECAY)
        self._branch = Mean()

    def observe(self, rows: int, seconds: float, branches: int = 0) -> None:
        """One more step, unless the machine stalled in it. rows: with those of branches."""
        if branches:
            self._observe_branches(branches, rows, seconds)
        else:
            self._observe_rows(rows, seconds)

    def _observe_branches(self, branches: int, rows: int, seconds: float) -> None:
        expected = self._expected(rows)
        if expected is not None:
            self._branch.observe((seconds - expected) / branches)

    def _observe_rows(self, rows: int, seconds: float) -> None:
        if self._stalls.is_one(seconds, self._expected(rows)):
            return
        self._steps += 1
        if self._branch.value is not None:
            self._branch.value *= _FADE
        self._sums.add(1.0, rows, seconds, rows * rows, rows * seconds)

    def _expected(self, rows: int) -> float | None:
        model = self.model
        return None if model is None else model.step_seconds + model.token_seconds * rows

    @property
    def model(self) -> CostModel | None:
        """The fit; None before enough steps. Where rows never vary, a row costs nothing."""
        if self._steps < _ENOUGH:
            return None
        weight, rows, seconds, rows_rows, rows_seconds = self._sums.values
        mean_rows, mean_seconds = rows / weight, seconds / weight
        variance = rows_rows / weight - mean_rows * mean_rows
        covariance = rows_seconds / weight - mean_rows * mean_seconds
        token_seconds = max(0.0, covariance / variance) if variance > 1e-9 else 0.0
        step_seconds = max(0.0, mean_seconds - token_seconds * mean_rows)
        return CostModel(step_seconds, token_seconds, max(0.0, self._branch.value or 0.0))
