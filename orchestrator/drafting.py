"""The draft of one stream: advice that may be late, wrong or absent, and never an error."""

import asyncio
import dataclasses
import time

import structlog

from orchestrator.calls import DraftCall
from orchestrator.models import fits
from orchestrator.pacing import Plan
from orchestrator.pools import Pool
from orchestrator.proposals import ProposalBuffer
from orchestrator.stream import OutputStream
from paceline.errors import PacelineError
from paceline.session import Advance, ModelInfo, Opening, Proposal, Verdict

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
"""How long after a draft is lost another one is tried."""
NOTHING = Proposal(0, 0, ())


class NoDraft:
    """The target alone."""

    punctual = False

    def advance(self, verdict: Verdict, remaining: int) -> None:
        """Nobody to tell."""

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
        target: ModelInfo,
        opening: Opening,
        stream: OutputStream,
        *,
        draft_length: int,
        window: int | None,
        seconds: float,
    ) -> None:
        """Draft for `stream` within `seconds`, as soon as run() runs.

        window: tokens the draft may be ahead. None chooses: where draft and target share a
        machine just the draft length, so that they work in turn and each has all cores;
        elsewhere a round further, so that the draft works while the target verifies.
        """
        self._drafts = drafts
        self._target = target
        self._opening = opening
        self._stream = stream
        self._draft_length = draft_length
        self._window = window
        self._seconds = seconds
        self._buffer: ProposalBuffer | None = None
        self._advances: asyncio.Queue[Advance] = asyncio.Queue()
        self._granted = 0
        self._overdue = False
        self._exhausted = False
        self._changed = asyncio.Event()

    @property
    def punctual(self) -> bool:
        """Whether waiting makes sense: a draft is there and did not miss its last time."""
        return self._buffer is not None and not self._overdue

    def advance(self, verdict: Verdict, remaining: int) -> None:
        """Tell the draft what was decided, and how far it may run."""
        if self._buffer is None:
            return
        self._exhausted = False
        self._buffer.confirm(verdict.token_ids)
        advance = Advance(verdict.position, verdict.token_ids, self._granted)
        self._advances.put_nowait(advance)

    def is_short_of(self, plan: Plan) -> bool:
        """Whether more is to come before at_least tokens are there."""
        if self._buffer is None or self._exhausted or len(self._buffer) >= plan.at_least:
            return False
        return self._buffer.last not in self._opening.stop_token_ids

    async def take(self, plan: Plan) -> Proposal:
        """What is there, waited for as the plan says.

        After a wait in vain there are no more waits until the draft delivers.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(plan.wait_seconds):
                while self.is_short_of(plan):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._overdue = True
        self._stream.waited(time.perf_counter() - started)
        return self._buffer.offer(plan.at_most) if self._buffer is not None else NOTHING

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
                self._buffer = None
                self._changed.set()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_one(self) -> None:
        replica = self._drafts.pick(self._fits, "draft with the target's vocabulary")
        async with DraftCall(replica, self._seconds) as call, asyncio.TaskGroup() as tasks:
            output = self._stream.output
            confirmed = self._opening.prompt_token_ids + output
            self._advances = asyncio.Queue()
            self._overdue = self._exhausted = False
            buffer = ProposalBuffer(confirmed, self._target.vocabulary_size)
            shares_machine = replica.model is not None and replica.model.host == self._target.host
            self._granted = self._choose_window(shares_machine)
            if not shares_machine:
                self._advances.put_nowait(Advance(len(confirmed), (), self._granted))
            self._buffer = buffer
            await call.open(_for_draft(self._opening, output))
            tasks.create_task(self._send_advances(call))
            async for proposal in call.proposals():
                self._receive(buffer, proposal)

    async def _send_advances(self, call: DraftCall) -> None:
        while True:
            await call.advance(await self._advances.get())

    def _receive(self, buffer: ProposalBuffer, proposal: Proposal) -> None:
        self._stream.statistics.drafted[proposal.drafter] += len(proposal.token_ids)
        if not proposal.token_ids:
            self._exhausted = buffer.ends_at(proposal)
        elif not buffer.add(proposal):
            return
        self._overdue = False
        self._changed.set()

    def _choose_window(self, shares_machine: bool) -> int:
        if self._window is not None:
            return self._window
        return self._draft_length if shares_machine else 2 * (self._draft_length + 1)

    def _fits(self, model: ModelInfo) -> bool:
        return fits(model, self._target)


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
