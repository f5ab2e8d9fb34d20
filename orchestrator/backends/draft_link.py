"""The draft of one stream: advice that may be late, wrong or absent, and never an error."""

import asyncio
from collections.abc import Collection
from typing import Protocol

import structlog

from orchestrator.backends.draft_opening import opening_for
from orchestrator.backends.draft_pool import DraftPool
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.draft_session import NOTHING, DraftSession
from orchestrator.backends.replica import Replica
from orchestrator.backends.server_contract import BrokenContract
from orchestrator.backends.session_calls import DraftCall
from orchestrator.speculation.drafting.draft_buffer import Offer, ReceivedTokens
from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.plan import DraftState, Plan
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from paceline.errors import (
    FailedPrecondition,
    InvalidArgument,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.protocol.features import BRANCHES
from paceline.protocol.model import ModelInfo
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TimedVerdict

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""How long after a draft is lost another one is tried."""
RECONSIDER_SECONDS = 1.0
"""How often a stream looks whether another pool would speed it up more."""


class DraftedStream(Protocol):
    """The output of a stream that has a draft."""

    @property
    def output(self) -> tuple[int, ...]:
        """Tokens decided so far."""

    @property
    def remaining(self) -> int:
        """Tokens to go; 0 when the output has ended."""

    def waited(self, seconds: float) -> None:
        """The round waited for its draft."""

    def received(self, drafter: Drafter, count: int) -> None:
        """Draft tokens came."""

    def verified(self, draft_tokens: tuple[DraftToken, ...]) -> None:
        """The verdict that came last is of these."""

    def count_in(self, counts: PoolCounts) -> None:
        """Count the stream there from now on."""


class NoDraft:
    """The draft of a stream without one: the target decodes alone."""

    state = DraftState(ready=False)

    def advance(self, verdict: TimedVerdict) -> tuple[DraftToken, ...]:
        """There is nobody to tell."""
        return ()

    def is_short_of(self, plan: Plan) -> bool:
        """Nobody waits for it."""
        return False

    async def take(self, plan: Plan) -> Offer:
        """Nothing, at once."""
        return NOTHING


class DraftLink:
    """A session on some draft server; when that is lost, or another pool is better, on another."""

    def __init__(
        self,
        drafts: DraftRouter,
        pacer: PoolPacer,
        target: ModelInfo,
        opening: Opening,
        stream: DraftedStream,
        *,
        lookahead: int | None,
        seconds: float,
    ) -> None:
        """Draft for `stream` within `seconds`, as soon as run() runs.

        pacer: of the stream; it is told which pool's draft it has. lookahead: tokens the draft may
        be ahead; None leaves that to the plans.
        """
        self._drafts = drafts
        self._pacer = pacer
        self._target = target
        self._opening = opening
        self._stream = stream
        self._lookahead = lookahead
        self._seconds = seconds
        self._session: DraftSession | None = None
        self._replica: Replica | None = None

    def use_target(self, target: ModelInfo) -> None:
        """The stream goes on with another target, maybe on another machine."""
        self._target = target
        if self._session is not None and self._replica is not None:
            self._session.share_cores(_share_cores(self._replica, target))
            self._session.takes_branches = BRANCHES in target.features

    @property
    def state(self) -> DraftState:
        """See orchestrator.round_loop."""
        return self._session.state if self._session is not None else NoDraft.state

    def advance(self, verdict: TimedVerdict) -> tuple[DraftToken, ...]:
        """See orchestrator.round_loop."""
        if self._session is None:
            return ()
        draft_tokens = self._session.advance(verdict)
        if draft_tokens:
            self._stream.verified(draft_tokens)
        return draft_tokens

    def is_short_of(self, plan: Plan) -> bool:
        """Whether a draft token is to come that the plan would wait for."""
        return self._session is not None and self._session.is_short_of(plan)

    async def take(self, plan: Plan) -> Offer:
        """What is there, waited for as the plan says."""
        session = self._session
        if session is None:
            return NOTHING
        offer = await session.take(plan)
        self._stream.waited(0.0 if plan.meanwhile else session.waited_seconds)
        if self._session is not session:  # lost meanwhile: a round does not wait like that
            self._pacer.interrupted()
        return offer

    async def run(self) -> None:
        """Find drafts and follow them, until cancelled. Servers that are full are asked again."""
        said = ""
        while True:
            try:
                await self._follow_any()
            except* PacelineError as errors:
                reason = str(errors.exceptions[0])
                if reason != said:
                    _log.info("no draft", reason=reason)
                said = reason
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_any(self) -> None:
        """Draft with a server of the chosen pool; where it refuses, with another one, at once."""
        full: dict[Replica, str] = {}
        unfit: dict[Replica, str] = {}
        wanted: DraftPool | None = None
        while True:
            length = len(self._opening.prompt_token_ids) + len(self._stream.output)
            pool, replica = self._drafts.pick(self._target, full | unfit, wanted, length)
            wanted = None
            try:
                wanted = await self._follow_one(pool, replica, unfit)
                full.clear()
            except* ResourceExhausted as errors:
                pool.refuse()
                full[replica] = str(errors.exceptions[0])
            except* BrokenContract as errors:
                pool.blame(replica, str(errors.exceptions[0]))
            except* (InvalidArgument, FailedPrecondition) as errors:
                unfit[replica] = str(errors.exceptions[0])
                if _is_too_small(replica, self._opening):
                    pool.refuse()
            finally:
                self._end()

    async def _follow_one(
        self, pool: DraftPool, replica: Replica, unfit: Collection[Replica]
    ) -> DraftPool:
        """Draft with one server until the stream moves to another pool; returns that.

        A stream that begins paused opens no session before it has something to ask.
        """
        opening = self._for_draft(replica.model)
        session = self._begin(pool, replica, opening)
        if not self._pacer.eager:
            wanted = await self._rest(pool, replica, session, unfit)
            if wanted is not None:
                return wanted
        async with DraftCall(replica, self._seconds, self._target.vocabulary_size) as call:
            session.on_doubt = call.doubt
            call.span.set({"paceline.draft.pool": pool.name})
            await call.open(opening)
            self._drafts.given()
            with pool.drafting() as counts:
                self._stream.count_in(counts)
                return await self._draft(call, session, pool, unfit)

    def _begin(self, pool: DraftPool, replica: Replica, opening: Opening) -> DraftSession:
        """A session for the round, which waits for its draft tokens from now on."""
        self._pacer.use(pool.measurements, pool.counts)
        session = self._session_of(replica, opening, pool.measurements)
        if self._pacer.eager:
            session.begin()
        self._session, self._replica = session, replica
        return session

    def _end(self) -> None:
        """The server is lost, refuses, or is left for another one."""
        if self._session is not None:
            self._session.lose()
        self._session = None
        self._stream.count_in(self._drafts.none)

    async def _rest(
        self, pool: DraftPool, replica: Replica, session: DraftSession, unfit: Collection[Replica]
    ) -> DraftPool | None:
        """Wait until the draft is to be told something; returns the pool of another choice.

        Raises Unavailable where its server is there no more.
        """
        named = replica.model and replica.model.named
        while not await session.is_told(RECONSIDER_SECONDS):
            if not replica.ready:
                raise Unavailable(f"the draft server at {replica.address} is not ready")
            if replica.model and replica.model.named != named:
                return pool
            if (wanted := self._other(pool, session, unfit)) is not None:
                return wanted
        return None

    async def _draft(
        self, call: DraftCall, session: DraftSession, pool: DraftPool, unfit: Collection[Replica]
    ) -> DraftPool:
        """Pass advances and draft tokens on until the stream moves to another pool."""
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send_advances(call, session))
            receiving = tasks.create_task(self._receive(call, session))
            wanted = await self._wants_other(pool, session, unfit)
            sending.cancel()
            receiving.cancel()
        return wanted

    async def _receive(self, call: DraftCall, session: DraftSession) -> None:
        received = ReceivedTokens()
        async for proposal in call.proposals():
            call.note_base(known=session.follows(proposal) or received.knows(proposal.base_digest))
            self._stream.received(proposal.drafter, received.add(proposal))
            session.receive(proposal)

    async def _wants_other(
        self, pool: DraftPool, session: DraftSession, unfit: Collection[Replica]
    ) -> DraftPool:
        """Wait until another pool would speed up the stream more; returns it."""
        while True:
            await asyncio.sleep(RECONSIDER_SECONDS)
            if (wanted := self._other(pool, session, unfit)) is not None:
                return wanted

    def _other(
        self, pool: DraftPool, session: DraftSession, unfit: Collection[Replica]
    ) -> DraftPool | None:
        """The pool that would speed up the stream more by now, if any.

        Raises InvalidArgument once the draft's positions are used up, before the stream's are.
        """
        is_shorter = session.max_length < self._opening.max_length
        if is_shorter and session.is_full and self._stream.remaining > 1:
            raise InvalidArgument("the draft's positions are used up")
        remaining = self._stream.remaining
        read = self._opening.max_length - remaining
        holding = self._pacer.holding(remaining, read)
        wanted = self._drafts.move(pool, holding, self._target, unfit)
        if wanted is not None:
            _log.info("stream moves", draft=pool.name, to=wanted.name)
            pool.counts.moved += 1
        return wanted

    def _for_draft(self, draft: ModelInfo | None) -> Opening:
        vocabularies, output = self._drafts.vocabularies, self._stream.output
        return opening_for(draft, self._target, vocabularies, self._opening, output)

    def _session_of(
        self, replica: Replica, opening: Opening, measurements: DraftMeasurements
    ) -> DraftSession:
        session = DraftSession(
            opening,
            self._target.vocabulary_size,
            measurements,
            shares_cores=_share_cores(replica, self._target),
            free=replica.model is not None and not replica.model.vocabulary_hash,
            lookahead=self._lookahead,
            round_trip_seconds=replica.round_trip_seconds,
        )
        session.takes_branches = BRANCHES in self._target.features
        return session


def _share_cores(replica: Replica, target: ModelInfo) -> bool:
    return replica.model is not None and replica.model.shares_cores(target)


def _is_too_small(replica: Replica, opening: Opening) -> bool:
    """Whether a draft's KV can never hold a stream."""
    kv = replica.model.kv if replica.model is not None else None
    return kv is not None and opening.max_length > kv.most(resumes=False)


async def _send_advances(call: DraftCall, session: DraftSession) -> None:
    while True:
        await call.advance(await session.advances.get())
