"""What did all streams of this process do since it began, and which run? Counts only.

The status and the metrics read it. What one stream did: stream_statistics.py.
"""

import contextlib
from collections.abc import Iterator

from orchestrator.backends.draft_router import DraftRouter
from orchestrator.serving.output import OutputStream
from paceline.protocol.status import Totals


class AllStreams:
    """Knows the streams that run; what they did is counted by the draft pool that each has."""

    def __init__(self, drafts: DraftRouter) -> None:
        """Begin at 0."""
        self._drafts = drafts
        self._streams = 0
        self.running: dict[OutputStream, str] = {}
        """With the name of each one's model."""
        self.wanting_draft: dict[OutputStream, str] = {}
        """Likewise, those of these with a draft and those that would have one."""

    @contextlib.contextmanager
    def run(self, streams: list[OutputStream], model: str, *, want_draft: bool) -> Iterator[None]:
        """Streams of a model run while the context lasts, and have no draft at first."""
        self._streams += len(streams)
        self.running.update(dict.fromkeys(streams, model))
        if want_draft:
            self.wanting_draft.update(dict.fromkeys(streams, model))
        for stream in streams:
            stream.statistics.pool_counts = self._drafts.none
        try:
            yield
        finally:
            for stream in streams:
                del self.running[stream]
                self.wanting_draft.pop(stream, None)

    @property
    def waiting(self) -> int:
        """Streams, of those that run, that wait for a target or for KV there."""
        return sum(stream.statistics.waiting for stream in self.running.copy())

    @property
    def totals(self) -> Totals:
        """So far."""
        all_counts = self._drafts.all_counts
        return Totals(
            running=len(self.running),
            waiting=self.waiting,
            streams=self._streams,
            tokens=sum(counts.tokens for counts in all_counts),
            rounds=sum(counts.rounds for counts in all_counts),
            target_only_steps=sum(counts.target_only_steps for counts in all_counts),
            drafted=sum(counts.drafted.total() for counts in all_counts),
            verified=sum(counts.verified for counts in all_counts),
            accepted=sum(counts.accepted for counts in all_counts),
        )
