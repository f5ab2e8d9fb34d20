"""What serves one stream: its drafter, once it is open, and the sessions of its branches."""

from draft_server.drafters.branches import BranchSessions
from draft_server.drafters.hybrid import HybridDrafter
from draft_server.drafters.model import Deliver, ModelDrafter
from draft_server.drafters.ngram import NgramDrafter
from draft_server.metrics import DraftMetrics
from draft_server.prompt_lookup import PromptLookup, RecentOutputs
from paceline.engine.interfaces import Engine
from paceline.harmless import harmless
from paceline.protocol.session import Advance, Opening

AnyDrafter = ModelDrafter | NgramDrafter


class DraftStream:
    """One stream, from its Open to its end, however that comes."""

    def __init__(
        self, engine: Engine, drafter: str, recent: RecentOutputs, metrics: DraftMetrics
    ) -> None:
        """Begin before its Open. drafter: as in the settings. recent: where lookup looks too."""
        self._engine = engine
        self._kind = drafter
        self._recent = recent
        self._metrics = metrics
        self._salt = ""
        self._drafter: AnyDrafter | None = None
        self._branches: BranchSessions | None = None

    def open(self, opening: Opening, deliver: Deliver) -> AnyDrafter:
        """The drafter, which hands what it drafts to `deliver`."""
        drafter = self._make(opening, deliver)
        self._drafter, self._salt = drafter, opening.cache_salt
        if isinstance(drafter, ModelDrafter):
            self._branches = BranchSessions(self._engine, drafter)
        return drafter

    def _make(self, opening: Opening, deliver: Deliver) -> AnyDrafter:
        if self._kind == "model":
            return ModelDrafter(opening, deliver)
        others = self._recent.of(opening.cache_salt)
        lookup = PromptLookup(opening.prompt_token_ids + opening.output_token_ids, others)
        kind = NgramDrafter if self._kind == "ngram" else HybridDrafter
        return kind(opening, deliver, lookup)

    def advance(self, drafter: AnyDrafter, advance: Advance) -> None:
        """Tell its drafter what was decided, and work on as many branches as are granted."""
        drafter.advance(advance)
        if self._branches is not None:
            self._branches.open(advance.branches)

    def close(self) -> None:
        """Free what it has beside its session; remember its output for lookup, and count."""
        if self._branches is not None:
            self._branches.close()
        if self._drafter is not None:
            self._recent.add(self._salt, self._drafter.ahead.committed)
            with harmless("metrics"):
                self._metrics.observe_end(self._drafter.ahead)
