"""The draft of one stream: advice that may be late, wrong or absent, and never an error."""

import asyncio
import dataclasses

import structlog

from orchestrator.acceptance import Guess
from orchestrator.calls import DraftCall
from orchestrator.draft_session import DraftSession
from orchestrator.models import fits
from orchestrator.plans import DraftState, Plan
from orchestrator.pools import Pool
from orchestrator.record import DraftRecord
from orchestrator.stream import OutputStream
from paceline.errors import PacelineError
from paceline.session import ModelInfo, Opening, Proposal, Verdict

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""How long after a draft is lost another one is tried."""
NOTHING = Proposal(0, 0, ())


class NoDraft:
    """The target alone."""

    state = DraftState(ready=False)

    def advance(self, verdict: Verdict) -> tuple[Guess, ...]:
        """Nobody to tell."""
        return ()

    def is_short_of(self, plan: Plan) -> bool:
        """It never has anything, and nobody waits for it."""
        return False

    async def take(self, plan: Plan) -> Proposal:
        """Nothing, at once."""
        return NOTHING


class Drafting:
    """A session on some draft server, found anew whenever one is lost."""

    def __init__(
        self,
        drafts: Pool,
        record: DraftRecord,
        target: ModelInfo,
        opening: Opening,
        stream: OutputStream,
        *,
        eager: bool,
        window: int | None,
        seconds: float,
    ) -> None:
        """Draft for `stream` within `seconds`, as soon as run() runs.

        eager: have the draft read the prompt while the target does. window: tokens the draft
        may be ahead; None leaves that to the plans.
        """
        self._drafts = drafts
        self._record = record
        self._target = target
        self._opening = opening
        self._stream = stream
        self._eager = eager
        self._window = window
        self._seconds = seconds
        self._session: DraftSession | None = None

    @property
    def state(self) -> DraftState:
        """See orchestrator.round."""
        return self._session.state if self._session is not None else NoDraft.state

    def advance(self, verdict: Verdict) -> tuple[Guess, ...]:
        """See orchestrator.round."""
        return self._session.advance(verdict) if self._session is not None else ()

    def is_short_of(self, plan: Plan) -> bool:
        """Whether a guess is to come that the plan would wait for."""
        return self._session is not None and self._session.is_short_of(plan)

    async def take(self, plan: Plan) -> Proposal:
        """What is there, waited for as the plan says."""
        session = self._session
        if session is None:
            return NOTHING
        proposal = await session.take(plan)
        self._stream.waited(session.waited_seconds)
        return proposal

    async def run(self) -> None:
        """Find drafts and follow them, until cancelled."""
        said = ""
        while True:
            try:
                await self._follow_one()
            except* PacelineError as errors:
                reason = str(errors.exceptions[0])
                if reason != said:
                    _log.info("no draft", reason=reason)
                said = reason
            finally:
                if self._session is not None:
                    self._session.lose()
                self._session = None
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_one(self) -> None:
        replica = self._drafts.pick(self._fits, "draft with the target's vocabulary")
        async with DraftCall(replica, self._seconds) as call, asyncio.TaskGroup() as tasks:
            opening = _for_draft(self._opening, self._stream.output)
            session = DraftSession(
                opening,
                self._target.vocabulary_size,
                self._record,
                alternates=replica.model is not None and replica.model.host == self._target.host,
                free=replica.model is not None and not replica.model.vocabulary_hash,
                window=self._window,
                round_trip_seconds=replica.round_trip_seconds,
            )
            if self._eager:
                session.begin()
            self._session = session
            await call.open(opening)
            tasks.create_task(_send_advances(call, session))
            async for proposal in call.proposals():
                self._stream.statistics.drafted[proposal.drafter] += len(proposal.token_ids)
                session.receive(proposal)

    def _fits(self, model: ModelInfo) -> bool:
        return fits(model, self._target)


async def _send_advances(call: DraftCall, session: DraftSession) -> None:
    while True:
        await call.advance(await session.advances.get())


def _for_draft(opening: Opening, output: tuple[int, ...]) -> Opening:
    """The draft's session: its numerics are its own, and of logprobs it knows nothing."""
    return dataclasses.replace(
        opening,
        output_token_ids=output,
        fingerprint="",
        logprobs=None,
        prompt_logprobs=None,
        required_features=(),
    )
