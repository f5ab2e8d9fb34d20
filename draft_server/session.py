"""One stream on the draft: its drafter, and what is kept of it when it ends."""

from collections.abc import Callable

from draft_server.drafters.base import Deliver, DraftContext, StreamDrafter
from draft_server.metrics import DraftMetrics
from draft_server.prompt_lookup import RecentOutputs
from paceline.best_effort import best_effort
from paceline.engine.interfaces import Engine
from paceline.engine.sampling.matcher import Grammar
from paceline.protocol.session import Opening


class DraftStream:
    """One stream, from its Open to its end, however that comes."""

    def __init__(
        self,
        engine: Engine,
        make: Callable[[DraftContext], StreamDrafter],
        recent: RecentOutputs,
        metrics: DraftMetrics,
    ) -> None:
        """Begin before its Open. make: its drafter. recent: where lookup looks too."""
        self._engine = engine
        self._make = make
        self._recent = recent
        self._metrics = metrics
        self._salt = ""
        self._drafter: StreamDrafter | None = None

    def open(self, opening: Opening, deliver: Deliver, grammar: Grammar | None) -> StreamDrafter:
        """The drafter, which hands what it drafts to `deliver`; grammar: as of DraftContext."""
        self._salt = opening.cache_salt
        self._drafter = self._make(
            DraftContext(opening, deliver, self._engine, self._recent, grammar)
        )
        return self._drafter

    def close(self) -> None:
        """Free what it has beside its session; remember its output for lookup, and count."""
        if self._drafter is None:
            return
        self._drafter.close()
        self._recent.add(self._salt, self._drafter.ahead.committed)
        with best_effort("metrics"):
            self._metrics.observe_end(self._drafter.ahead)
