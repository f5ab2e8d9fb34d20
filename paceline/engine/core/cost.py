"""The cost of a step by its rows, fitted online."""

from paceline.averages import DecayedSums, Stalls
from paceline.protocol.session import CostModel

_DECAY = 0.98
_ENOUGH = 8


class CostFit:
    """Least squares of seconds over rows; older steps weigh less, about the last 50 count."""

    def __init__(self) -> None:
        """Begin with no steps."""
        self._steps = 0
        self._stalls = Stalls()
        # Of 1, rows, seconds, rows squared, rows times seconds.
        self._sums = DecayedSums(5, _DECAY)

    def observe(self, rows: int, seconds: float) -> None:
        """One more step, unless the machine stalled in it."""
        if self._stalls.is_one(seconds, self._expected(rows)):
            return
        self._steps += 1
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
        return CostModel(max(0.0, mean_seconds - token_seconds * mean_rows), token_seconds)
