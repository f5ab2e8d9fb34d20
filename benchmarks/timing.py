"""How long calls take."""

import statistics
import time
from collections.abc import Callable


def median_seconds(run: Callable[[], object], calls: int) -> float:
    """The median over `calls` calls, one behind the other."""
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
