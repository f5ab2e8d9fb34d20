"""One draft pool: servers that count as equal, and what all streams know of their drafts."""

import contextlib
import time
from collections.abc import Collection, Iterator

import structlog

from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import BLAMED_SECONDS, Blame, Replica
from orchestrator.backends.vocabulary_relations import VocabularyRelations
from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import DraftMeasurements, TargetMeasurements
from orchestrator.speculation.pool_choice import PoolCandidate
from paceline.protocol.model import ModelInfo
from paceline.protocol.status import PoolState
from paceline.rpc.options import DRAFT_ANSWER_BYTES
from paceline.rpc.tls import ClientTls

_log = structlog.get_logger(__name__)

DRAFT_SERVICE = "paceline.v1.DraftService"
FULL_SECONDS = 5.0
"""A pool that refused a stream counts as full for so long, unless it takes one."""


class DraftPool(Pool):
    """Draft servers that count as equal: one name, one set of measurements."""

    def __init__(
        self,
        name: str,
        addresses: Collection[str],
        target: TargetMeasurements,
        vocabularies: VocabularyRelations,
        tls: ClientTls | None = None,
    ) -> None:
        """Know of no server yet."""
        super().__init__(addresses, DRAFT_SERVICE, tls, DRAFT_ANSWER_BYTES)
        self._vocabularies = vocabularies
        self.name = name
        self.measurements = DraftMeasurements(target)
        self.counts = PoolCounts()
        self._benched = False
        self._refused_at = -FULL_SECONDS
        self._models: set[tuple[str, str]] = set()

    def notice_models(self) -> None:
        """Forget what was learned of other models than the ones that the servers report now."""
        there = (replica for replica in self.all if not replica.health.retired)
        models = [replica.model for replica in there if replica.model]
        found = {model.named for model in models}
        if self._models and found - self._models:
            _log.info("draft replaced", draft=self.name, models=sorted(found))
            self.measurements = DraftMeasurements(self.measurements.target)
        self._models = found or self._models

    def fitting(
        self, target: ModelInfo, refused: Collection[Replica] = (), length: int = 0
    ) -> list[Replica]:
        """Servers that could draft for `target`, without those that refused.

        length: of prompt and output, behind which they have positions left.
        """
        able = (one for one in self.ready if one not in refused and not one.blamed)
        fits = self._vocabularies.fits
        return [one for one in able if fits(one.model, target) and has_room(one.model, length)]

    def blame(self, replica: Replica, reason: str) -> None:
        """A server said what it was not asked for: for a while no stream gets it."""
        reason = f"it broke the contract: {reason}"
        if not replica.blamed:
            _log.warning("draft benched", draft=self.name, address=replica.address, reason=reason)
        replica.blame = Blame(reason)

    def refuse(self) -> None:
        """A server was full."""
        self._refused_at = time.monotonic()

    @property
    def full(self) -> bool:
        """Whether a stream found no room a moment ago, and none since."""
        return time.monotonic() - self._refused_at < FULL_SECONDS

    @property
    def hindrance(self) -> tuple[PoolState, str] | None:
        """Why no new stream gets these drafts, whatever they are worth; None: nothing hinders."""
        if not self.ready:
            servers = len(self.all)
            reason = f"none of {servers} servers is ready" if servers else "no address resolves"
            return PoolState.UNREACHABLE, reason
        if self.wrong_vocabulary:
            words = self.ready[0].vocabulary
            return PoolState.WRONG_VOCABULARY, f"its vocabulary is not the target's: {words}"
        if broken := self._broken:
            again = f"it is tried again after {BLAMED_SECONDS:.0f} s, or when it was started anew"
            return PoolState.BENCHED, f"{broken}; {again}"
        if self.full:
            return PoolState.FULL, "streams that found no room begin without, and ask again"
        return None

    @property
    def wrong_vocabulary(self) -> bool:
        """Whether servers are ready, and the vocabulary of none is a target's."""
        return bool(self.ready) and all(replica.wrong_vocabulary for replica in self.ready)

    @property
    def _broken(self) -> str:
        """What the servers said that they were not asked for; empty while some are left."""
        blames = [one.blame.reason if one.blame and one.blamed else "" for one in self.ready]
        return next(iter(blames), "") if all(blames) else ""

    @contextlib.contextmanager
    def drafting(self) -> Iterator[PoolCounts]:
        """Count a stream that has one of these drafts."""
        self._refused_at = -FULL_SECONDS
        self.counts.streams += 1
        self.counts.running += 1
        try:
            yield self.counts
        finally:
            self.counts.running -= 1
            self._say_whether_benched()

    def _say_whether_benched(self) -> None:
        if self.measurements.benched == self._benched:
            return
        self._benched = self.measurements.benched
        if self._benched:
            reason = "streams gave it up: it did not pay"
            _log.warning("draft benched", draft=self.name, reason=reason)
        else:
            _log.info("draft in use again", draft=self.name)

    @property
    def candidate(self) -> PoolCandidate:
        """What the choice depends on."""
        measurements = self.measurements
        return PoolCandidate(
            self.name,
            measurements.speedup,
            measurements.benched,
            measurements.probing,
            measurements.tokens_to_probe,
            measurements.opening_seconds(1),
        )


def has_room(draft: ModelInfo | None, length: int) -> bool:
    """Whether a draft has positions for a token behind so many tokens, and for one behind that."""
    return draft is not None and length + 2 <= draft.max_positions
