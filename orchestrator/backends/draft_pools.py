"""The draft pools: what is known of each, and which one a stream gets."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator, Mapping

import structlog

from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import BLAMED_SECONDS, POLL_SECONDS, Blame, Replica, least_loaded
from orchestrator.backends.vocabularies import Vocabularies
from orchestrator.speculation.counts import Counts
from orchestrator.speculation.measurements import DraftMeasurements, TargetMeasurements
from orchestrator.speculation.pool_choice import Holding, PoolCandidate, PoolChoice, standing
from paceline.errors import Unavailable
from paceline.protocol.model import ModelInfo
from paceline.protocol.status import PoolState

_log = structlog.get_logger(__name__)

FULL_SECONDS = 5.0
"""A pool that refused a stream counts as full for so long, unless it takes one."""


class DraftPool(Pool):
    """Draft servers that count as equal: one name, one record."""

    def __init__(
        self,
        name: str,
        addresses: Collection[str],
        target: TargetMeasurements,
        vocabularies: Vocabularies,
    ) -> None:
        """Know of no server yet."""
        super().__init__(addresses)
        self._vocabularies = vocabularies
        self.name = name
        self.measurements = DraftMeasurements(target)
        self.counts = Counts()
        self._benched = False
        self._refused_at = -FULL_SECONDS
        self._models: set[tuple[str, str]] = set()

    def notice_models(self) -> None:
        """Forget what was learned of other models than the ones that the servers report now."""
        models = [replica.model for replica in self.all if replica.model and not replica.retired]
        found = {(model.name, model.fingerprint) for model in models}
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

    @property
    def broken(self) -> str:
        """What the servers said that they were not asked for; empty while some are left."""
        blames = [one.blame.reason if one.blame and one.blamed else "" for one in self.ready]
        return next(iter(blames), "") if all(blames) else ""

    @property
    def wrong_vocabulary(self) -> bool:
        """Whether servers are ready, and the vocabulary of none is a target's."""
        return bool(self.ready) and all(replica.benched for replica in self.ready)

    def refuse(self) -> None:
        """A server was full."""
        self._refused_at = time.monotonic()

    @property
    def full(self) -> bool:
        """Whether a stream found no room a moment ago, and none since."""
        return time.monotonic() - self._refused_at < FULL_SECONDS

    @contextlib.contextmanager
    def drafting(self) -> Iterator[Counts]:
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
            _log.warning(
                "draft benched", draft=self.name, reason="streams gave it up: it did not pay"
            )
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


class DraftPools:
    """All draft pools, in the order of preference."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        """Know of no server yet. addresses: by the pools' names."""
        self.target = TargetMeasurements()
        self.vocabularies = Vocabularies()
        self.pools = [
            DraftPool(name, addresses[name], self.target, self.vocabularies) for name in addresses
        ]
        self.none = Counts()
        self._selection = PoolChoice()

    @property
    def all(self) -> list[Replica]:
        """Every server of every pool."""
        return [replica for pool in self.pools for replica in pool.all]

    @property
    def ready(self) -> list[Replica]:
        """Those that sessions can be opened on."""
        return [replica for pool in self.pools for replica in pool.ready]

    @property
    def all_counts(self) -> list[Counts]:
        """Of each pool, and of streams without a draft."""
        return [*(pool.counts for pool in self.pools), self.none]

    def notice_models(self) -> None:
        """See DraftPool."""
        for pool in self.pools:
            pool.notice_models()

    def pick(
        self,
        target: ModelInfo,
        refused: Mapping[Replica, str],
        wanted: str | None = None,
        length: int = 0,
    ) -> tuple[DraftPool, Replica]:
        """Pool and server for a stream, without servers that `refused` it, and why.

        wanted: the pool it moves to, if that can be used. length: of its prompt and output.
        Raises Unavailable when there is none.
        """
        usable = self._usable(target, refused, length)
        candidates = [pool.candidate for pool in usable.values()]
        chosen = wanted if wanted in usable else self._selection.choose(candidates)
        if chosen is None and refused:
            raise Unavailable(f"no draft takes the stream: {next(iter(refused.values()))}")
        if chosen is None:
            raise Unavailable("no draft with the target's vocabulary and room for it is reachable")
        pool = usable[chosen]
        return pool, least_loaded(pool.fitting(target, refused, length))

    def move(
        self, pool: DraftPool, holding: Holding, target: ModelInfo, unfit: Collection[Replica]
    ) -> str | None:
        """The pool to which a stream moves that has drafts of `pool`; None: it stays."""
        usable = self._usable(target, unfit).values()
        candidates = [one.candidate for one in usable if one is pool or not one.full]
        return self._selection.move(pool.name, holding, candidates)

    def _usable(
        self, target: ModelInfo, refused: Collection[Replica], length: int = 0
    ) -> dict[str, DraftPool]:
        """The pools with a server for the stream, by name."""
        self.notice_models()
        return {pool.name: pool for pool in self.pools if pool.fitting(target, refused, length)}

    def given(self) -> None:
        """A stream has got what was picked."""
        self._selection.given()

    def standing(self, pool: DraftPool) -> tuple[PoolState, str]:
        """How a pool stands, and why."""
        if not pool.ready:
            servers = len(pool.all)
            reason = f"none of {servers} servers is ready" if servers else "no address resolves"
            return PoolState.UNREACHABLE, reason
        if pool.wrong_vocabulary:
            words = pool.ready[0].vocabulary
            return PoolState.WRONG_VOCABULARY, f"its vocabulary is not the target's: {words}"
        if pool.broken:
            again = f"it is tried again after {BLAMED_SECONDS:.0f} s, or when it was started anew"
            return PoolState.BENCHED, f"{pool.broken}; {again}"
        if pool.full:
            return PoolState.FULL, "streams that found no room begin without, and ask again"
        usable = [
            one
            for one in self.pools
            if one.ready and not (one.wrong_vocabulary or one.broken or one.full)
        ]
        candidates = [one.candidate for one in usable]
        state, reason = standing(pool.candidate, self._selection.best(candidates))
        vocabulary = next((one.vocabulary for one in pool.ready if one.vocabulary), "")
        return state, f"{reason}; {vocabulary}" if vocabulary else reason

    async def compare(self, targets: Pool) -> None:
        """Keep comparing vocabularies with those of the targets, until cancelled."""
        while True:
            await self.vocabularies.learn(self.ready, targets.ready)
            self._note_vocabularies([one.model for one in targets.ready if one.model])
            await asyncio.sleep(POLL_SECONDS)

    def _note_vocabularies(self, targets: list[ModelInfo]) -> None:
        """Report, at each connect, a draft whose vocabulary is no target's: it is not used."""
        for draft in self.ready:
            found = self.vocabularies.best(draft.model, targets)
            if found is None:
                continue
            draft.vocabulary = "" if found.same == found.of else str(found)
            if not found.usable and not draft.benched:
                reason = f"its vocabulary is not the target's: {found}"
                _log.warning("draft benched", address=draft.address, reason=reason)
            draft.benched = not found.usable


def has_room(draft: ModelInfo | None, length: int) -> bool:
    """Whether a draft has positions for a token behind so many tokens, and for one behind that."""
    return draft is not None and length + 2 <= draft.max_positions
