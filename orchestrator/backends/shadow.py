"""Candidate drafts that are measured on live traffic and used for none of it.

A share of the outputs that have ended is walked along by a candidate, one output at a time. No
stream waits for it, and nothing of it reaches a pacer.
"""

import asyncio
import random
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from orchestrator.backends.draft_opening import opening_for
from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import least_loaded
from orchestrator.backends.shadow_walk import ShadowWalk
from orchestrator.speculation.estimates.shadow import ShadowMeasurements
from paceline.errors import PacelineError, Unavailable
from paceline.protocol.limits import MAX_PRIORITY
from paceline.protocol.model import ModelInfo
from paceline.protocol.session import CostModel, Opening
from paceline.protocol.status import Shadow, ShadowCounts, ShadowTimes
from paceline.rpc.tls import ClientTls

_log = structlog.get_logger(__name__)

QUEUED = 16
"""Outputs that may wait for a candidate; more are left out."""
ROUNDS_PER_SECOND = 20.0
"""Most that a candidate is asked, whatever the traffic."""
LEAST_TOKENS = 2
RETRY_SECONDS = 1.0
"""After a candidate failed."""


@dataclass(frozen=True, slots=True)
class EndedOutput:
    """An output to walk along.

    step_seconds: from token to token, where the target decoded alone. cost: of its steps.
    """

    opening: Opening
    tokens: tuple[int, ...]
    target: ModelInfo
    step_seconds: float | None = None
    cost: CostModel | None = None


class ShadowDraft:
    """One candidate, and what was measured of it."""

    def __init__(self, pool: DraftPool, router: DraftRouter, share: float) -> None:
        """Nothing yet. share: of outputs. The pool is watched elsewhere."""
        self.pool = pool
        self._router = router
        self._share = share
        self._queue: asyncio.Queue[EndedOutput] = asyncio.Queue(QUEUED)
        self._random = random.Random()  # noqa: S311  no secret
        self._model: tuple[str, str] | None = None
        self._shares_cores = self._free = False
        self.measurements = ShadowMeasurements()
        self.counts = ShadowCounts()

    def offer(self, output: EndedOutput) -> None:
        """Take it where it is drawn; never waits."""
        if self._random.random() >= self._share or len(output.tokens) < LEAST_TOKENS:
            return
        if self._queue.full() or not self.pool.fitting(output.target):
            self._count(dropped=1)
        else:
            self._queue.put_nowait(output)

    def _count(self, **more: int) -> None:
        now = {name: getattr(self.counts, name) + count for name, count in more.items()}
        self.counts = replace(self.counts, **now)

    async def run(self) -> None:
        """Walk along what was taken, until cancelled; a candidate that fails costs an output."""
        while True:
            output = await self._queue.get()
            try:
                await self._walk(output)
            except PacelineError as error:
                self._count(failed=1)
                _log.info("output not shadowed", draft=self.pool.name, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                self._count(failed=1)
                _log.exception("shadowing failed")
                await asyncio.sleep(RETRY_SECONDS)

    async def _walk(self, output: EndedOutput) -> None:
        length = len(output.opening.prompt_token_ids) + len(output.tokens)
        fitting = self.pool.fitting(output.target, (), length)
        if not fitting:
            raise Unavailable("no server of the candidate fits it any more")
        replica = least_loaded(fitting)
        self._notice(replica.model, output)
        opening = replace(output.opening, max_tokens=len(output.tokens) + 1, priority=-MAX_PRIORITY)
        opening = opening_for(replica.model, output.target, self._router.vocabularies, opening, ())
        size = output.target.vocabulary_size
        walk = ShadowWalk(opening, output.tokens, size, self.measurements)
        try:
            await walk.run(replica, 1.0 / ROUNDS_PER_SECOND)
        finally:
            came = walk.came
            if came.rounds:
                self.measurements.observe(came)
                self._count(outputs=1, judged=came.judged, accepted=came.accepted)

    def _notice(self, model: ModelInfo | None, output: EndedOutput) -> None:
        """Whose figures they are: of another model than before, from nothing."""
        if model is None:
            raise Unavailable("the candidate has not said what it is")
        named = model.named
        if named != self._model:
            self._model, self.measurements = named, ShadowMeasurements()
        self._shares_cores = model.shares_cores(output.target)
        self._free = not model.vocabulary_hash
        self.measurements.observe_target(output.step_seconds, output.cost)

    @property
    def status(self) -> Shadow:
        """What is known."""
        found, pool = self.measurements, self.pool
        hindrance = pool.hindrance
        return Shadow(
            name=pool.name,
            addresses=pool.addresses,
            share=self._share,
            model=self._model[0] if self._model else "",
            hindrance=hindrance[1] if hindrance else "",
            counts=self.counts,
            outputs=found.outputs,
            tokens=found.total.tokens,
            acceptance=found.acceptance,
            draft_rate=found.draft_rate,
            times=ShadowTimes(
                token_seconds=found.step.value,
                restart_seconds=found.restart.value,
                target_step_seconds=found.target_step.value,
                verify_token_seconds=found.verify_token.value,
            ),
            shares_cores=self._shares_cores,
            free=self._free,
        )


class Shadows:
    """All candidates that are shadowed; there may be none."""

    def __init__(
        self, addresses: dict[str, list[str]], share: float, tls: ClientTls | None = None
    ) -> None:
        """addresses: by the candidates' names. share: of outputs that each walks along."""
        self._router = router = DraftRouter(addresses, tls)
        self.drafts = [ShadowDraft(pool, router, share) for pool in router.pools]

    def offer(self, output: EndedOutput) -> None:
        """An output has ended."""
        for draft in self.drafts:
            draft.offer(output)

    def watches(self, targets: Pool) -> Iterable[Coroutine[Any, Any, None]]:
        """What is to run, until cancelled."""
        if not self.drafts:
            return ()
        pools = (draft.pool.watch() for draft in self.drafts)
        return (*pools, *(draft.run() for draft in self.drafts), self._router.compare(targets))
