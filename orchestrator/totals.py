"""What all streams of this process come to, those that still run included."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from orchestrator.stream import OutputStream
from paceline.status import Totals


class RunningTotals:
    """Counts streams as they run."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._running: set[OutputStream] = set()
        self._ended: Counter[str] = Counter()

    @contextlib.contextmanager
    def count(self, streams: list[OutputStream]) -> Iterator[None]:
        """Count streams while the context lasts, and what they came to from then on."""
        self._running.update(streams)
        try:
            yield
        finally:
            self._running.difference_update(streams)
            for stream in streams:
                self._ended.update(_counts(stream))

    @property
    def value(self) -> Totals:
        """So far."""
        counts = Counter(self._ended)
        for stream in self._running:
            counts.update(_counts(stream))
        return Totals(running=len(self._running), **counts)


def _counts(stream: OutputStream) -> dict[str, int]:
    found = stream.statistics.result()
    return {
        "streams": 1,
        "tokens": stream.generated,
        "rounds": found.rounds,
        "plain_steps": found.plain_steps,
        "drafted": found.drafted,
        "verified": found.verified,
        "accepted": found.accepted,
    }
