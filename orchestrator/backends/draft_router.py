"""Which draft a stream gets: the pool that pays most, of those that can draft for its target."""

import asyncio
from collections.abc import Collection, Mapping

import structlog

from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import POLL_SECONDS, Replica, least_loaded
from orchestrator.backends.vocabulary_relations import VocabularyRelations
from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import TargetMeasurements
from orchestrator.speculation.pool_choice import Holding, PoolChoice, standing
from paceline.errors import Unavailable
from paceline.protocol.model import ModelInfo
from paceline.protocol.status import PoolState
from paceline.rpc.tls import ClientTls

_log = structlog.get_logger(__name__)


class DraftRouter:
    """All draft pools, in the order of preference, and the choice among them."""

    def __init__(self, addresses: dict[str, list[str]], tls: ClientTls | None = None) -> None:
        """Know of no server yet. addresses: by the pools' names."""
        self.target = TargetMeasurements()
        self.vocabularies = VocabularyRelations()
        self.pools = [
            DraftPool(name, addresses[name], self.target, self.vocabularies, tls)
            for name in addresses
        ]
        self.none = PoolCounts()
        self._choice = PoolChoice()

    @property
    def all(self) -> list[Replica]:
        """Every server of every pool."""
        return [replica for pool in self.pools for replica in pool.all]

    @property
    def ready(self) -> list[Replica]:
        """Those that sessions can be opened on."""
        return [replica for pool in self.pools for replica in pool.ready]

    @property
    def all_counts(self) -> list[PoolCounts]:
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
        wanted: DraftPool | None = None,
        length: int = 0,
    ) -> tuple[DraftPool, Replica]:
        """Pool and server for a stream, without servers that `refused` it, and why.

        wanted: the pool it moves to, if that can be used. length: of its prompt and output.
        Raises Unavailable when there is none.
        """
        usable = self._usable(target, refused, length)
        pool = wanted if wanted in usable else self._choose(usable)
        if pool is None and refused:
            raise Unavailable(f"no draft takes the stream: {next(iter(refused.values()))}")
        if pool is None:
            raise Unavailable("no draft with the target's vocabulary and room for it is reachable")
        return pool, least_loaded(pool.fitting(target, refused, length))

    def move(
        self, pool: DraftPool, holding: Holding, target: ModelInfo, unfit: Collection[Replica]
    ) -> DraftPool | None:
        """The pool to which a stream moves that has drafts of `pool`; None: it stays."""
        if not holding.may_move:  # most streams ask this once a second
            self.notice_models()
            return None
        usable = [one for one in self._usable(target, unfit) if one is pool or not one.full]
        name = self._choice.move(pool.name, holding, [one.candidate for one in usable])
        return _named(name, usable)

    def _choose(self, usable: list[DraftPool]) -> DraftPool | None:
        return _named(self._choice.choose([pool.candidate for pool in usable]), usable)

    def _usable(
        self, target: ModelInfo, refused: Collection[Replica], length: int = 0
    ) -> list[DraftPool]:
        """The pools with a server for the stream."""
        self.notice_models()
        return [pool for pool in self.pools if pool.fitting(target, refused, length)]

    def given(self) -> None:
        """A stream has got what was picked."""
        self._choice.given()

    def standing(self, pool: DraftPool) -> tuple[PoolState, str]:
        """How a pool stands, and why."""
        if (hindrance := pool.hindrance) is not None:
            return hindrance
        candidates = [one.candidate for one in self.pools if one.hindrance is None]
        state, reason = standing(pool.candidate, self._choice.best(candidates))
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
            if not found.usable and not draft.wrong_vocabulary:
                reason = f"its vocabulary is not the target's: {found}"
                _log.warning("draft benched", address=draft.address, reason=reason)
            draft.wrong_vocabulary = not found.usable


def _named(name: str | None, pools: list[DraftPool]) -> DraftPool | None:
    return next((pool for pool in pools if pool.name == name), None)
