"""Which cases of a test `make test` leaves to `make test-all`."""

from typing import Any

import pytest


def slow(*cases: Any) -> list[Any]:
    """The cases, each one value or a tuple of several, marked slow."""
    values = (case if isinstance(case, tuple) else (case,) for case in cases)
    return [pytest.param(*each, marks=pytest.mark.slow) for each in values]
