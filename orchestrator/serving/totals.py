"""What all streams of this process come to, those that still run included."""

import contextlib
from collections.abc import Iterator

from orchestrator.backends.draft_pools import Drafts
from orchestrator.serving.output import OutputStream
from paceline.protocol.status import Totals


class RunningTotals:
    """Counts streams as they run; the tallies count what they come to."""

    def __init__(self, drafts: Drafts) -> None:
        """Begin at 0."""
        self._drafts = drafts
        self._streams = 0
        self.running: set[OutputStream] = set()

    @contextlib.contextmanager
    def count(self, streams: list[OutputStream]) -> Iterator[None]:
        """Count streams while the context lasts, and what they come to until they get a draft."""
        self._streams += len(streams)
        self.running.update(streams)
        for stream in streams:
            stream.statistics.tally = self._drafts.none
        try:
            yield
        finally:
            self.running.difference_update(streams)

    @property
    def value(self) -> Totals:
        """So far."""
        tallies = self._drafts.tallies
        return Totals(
            running=len(self.running),
            streams=self._streams,
            tokens=sum(tally.tokens for tally in tallies),
            rounds=sum(tally.rounds for tally in tallies),
            plain_steps=sum(tally.plain_steps for tally in tallies),
            drafted=sum(tally.drafted.total() for tally in tallies),
            verified=sum(tally.verified for tally in tallies),
            accepted=sum(tally.accepted for tally in tallies),
        )
