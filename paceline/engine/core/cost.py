"""The cost of a step by its rows, fitted online."""

from paceline.averages import Stalls
from paceline.protocol.session import CostModel

_DECAY = 0.98
_ENOUGH = 8


class CostFit:
    """Least squares of seconds over rows; older steps weigh less, about the last 50 count."""

    def __init__(self) -> None:
        """Begin with no steps."""
        self._steps = 0
        self._stalls = Stalls()
        self._weight = 0.0
        self._rows = self._seconds = self._rows_rows = self._rows_seconds = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """One more step, unless the machine stalled in it."""
        if self._stalls.is_one(seconds, self._expected(rows)):
            return
        self._steps += 1
        self._weight = _DECAY * self._weight + 1.0
        self._rows = _DECAY * self._rows + rows
        self._seconds = _DECAY * self._seconds + seconds
        self._rows_rows = _DECAY * self._rows_rows + rows * rows
        self._rows_seconds = _DECAY * self._rows_seconds + rows * seconds

    def _expected(self, rows: int) -> float | None:
        model = self.model
        return None if model is None else model.step_seconds + model.token_seconds * rows

    @property
    def model(self) -> CostModel | None:
        """The fit; None before enough steps. Where rows never vary, a row costs nothing."""
        if self._steps < _ENOUGH:
            return None
        mean_rows, mean_seconds = self._rows / self._weight, self._seconds / self._weight
        variance = self._rows_rows / self._weight - mean_rows * mean_rows
        covariance = self._rows_seconds / self._weight - mean_rows * mean_seconds
        token_seconds = max(0.0, covariance / variance) if variance > 1e-9 else 0.0
        return CostModel(max(0.0, mean_seconds - token_seconds * mean_rows), token_seconds)
