"""One session on a draft server, as the round sees it: draft tokens come in, advances go out."""

import asyncio
import contextlib
from collections.abc import Callable

from orchestrator.speculation.drafting.draft_buffer import Offer, ProposalBuffer
from orchestrator.speculation.drafting.due_times import DueTimes
from orchestrator.speculation.drafting.expectation import Expectation
from orchestrator.speculation.drafting.lookahead import Lookahead
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.plan import DraftState, Plan
from paceline.mailbox import Mailbox
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import DraftToken, Proposal
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TimedVerdict

MOST_ADVANCES = 64
"""Advances that may wait to be sent. What is decided then is told to a draft that reads again."""
NOTHING = Offer(Proposal(0, 0, ()))
DOUBT_SECONDS = 0.25
"""A server that is waited for longer is asked meanwhile whether it is alive."""


class DraftSession:
    """The round's draft for as long as its server lives.

    It waits for draft tokens, and calls on_doubt where that may be in vain. What the draft is told,
    and when draft tokens are expected and wanted, is decided by pure classes: Lookahead,
    Expectation and DueTimes.
    """

    def __init__(
        self,
        opening: Opening,
        vocabulary_size: int,
        measurements: DraftMeasurements,
        *,
        shares_cores: bool,
        free: bool = False,
        lookahead: int | None = None,
        round_trip_seconds: float = 0.0,
    ) -> None:
        """Begin behind the opening's tokens. free: the draft only looks up.

        lookahead: instead of what plans grant. round_trip_seconds: to the draft server.
        """
        self._opening = opening
        self._measurements = measurements
        self._free = free
        committed = opening.prompt_token_ids + opening.output_token_ids
        self._committed = ProposalBuffer(committed, vocabulary_size)
        self._decided: list[int] = []  # by the target, and not committed yet
        self._lookahead = Lookahead(
            len(committed), measurements, shares_cores=shares_cores, free=free, fixed=lookahead
        )
        self._expectation = Expectation(
            measurements,
            self._lookahead,
            len(opening.prompt_token_ids),
            cold=not free,
            round_trip_seconds=round_trip_seconds,
        )
        self._due = DueTimes(measurements, self._expectation, round_trip_seconds)
        self._sessions = 1
        self.takes_branches = False
        """Whether the target verifies branches beside draft tokens."""
        self.on_doubt: Callable[[], None] = lambda: None
        self.waited_seconds = 0.0
        self._change: asyncio.Future[bool] | None = None
        self.advances: Mailbox[Advance] = Mailbox()
        self._told = asyncio.Event()

    @property
    def state(self) -> DraftState:
        """What there is to plan with."""
        return DraftState(
            ready=not (self._expectation.overdue or (self.is_full and not len(self._buffer))),
            shares_cores=self._lookahead.shares_cores,
            opening_seconds=self._expectation.opening_seconds,
            free=self._free,
            hit_rate=self._measurements.hit_rate.value,
        )

    @property
    def _buffer(self) -> ProposalBuffer:
        """What is at hand behind all that was decided. Of a stream that pauses nobody asks that."""
        if self._decided:
            decided = tuple(self._decided)
            self._decided.clear()
            self._lookahead.commit(decided)
            stayed = self._committed.commit(decided)
            self._expectation.commit(stayed=stayed, ready=len(self._committed) > 0)
        return self._committed

    @property
    def is_full(self) -> bool:
        """Whether the draft has no position left for a draft token that is not here."""
        last = self._opening.max_length - 1
        most = self._committed.end + len(self._decided)
        return most >= last and self._buffer.end >= last

    @property
    def max_length(self) -> int:
        """Tokens of prompt and output that the draft has positions for."""
        return self._opening.max_length

    def begin(self) -> None:
        """Have the draft read its prompt while the target does, where they do not share cores.

        What it drafts by then is there for the first round.
        """
        self._tell(self._lookahead.begin())
        self._expectation.told(asyncio.get_running_loop().time())

    def share_cores(self, shares: bool) -> None:
        """Whether the target that the stream has by now computes on the draft's cores."""
        self._lookahead.shares_cores = shares

    def lose(self) -> None:
        """The server is gone: nobody waits any longer."""
        self._lookahead.exhausted = True
        self._note_change(True)

    def advance(self, timed: TimedVerdict) -> tuple[DraftToken, ...]:
        """Note what was decided, to be told with the next take."""
        verdict = timed.verdict
        verified = verdict.verified
        judged = tuple(self._buffer.draft_tokens[:verified]) if verified else ()
        self._decided += verdict.token_ids
        self._due.observe(timed)
        self._sessions = verdict.load.sessions
        return judged

    def is_short_of(self, plan: Plan) -> bool:
        """Whether a draft token is to come that the plan would wait for."""
        return self._max_wait(plan, asyncio.get_running_loop().time(), 0.0) > 0

    def _max_wait(self, plan: Plan, now: float, waited: float) -> float:
        """Seconds the plan would wait for one more token; 0 when it would not, or none comes."""
        if plan.waiting.count == 0:
            return 0.0
        buffer = self._buffer
        ends = buffer.last in self._opening.stop_token_ids
        if self._lookahead.exhausted or self.is_full or ends:
            return 0.0
        return plan.max_wait(buffer.draft_tokens, self._expectation.seconds(now), waited)

    async def take(self, plan: Plan) -> Offer:
        """What is there, waited for as the plan says.

        After a wait in vain there are no more waits until the draft delivers.
        """
        if self._lookahead.rests(plan):
            self.waited_seconds = 0.0
            return NOTHING
        clock = asyncio.get_running_loop().time
        started = now = clock()
        observes = self._measurements.waits_are_stale(self._sessions)
        if observes:
            self._measurements.begin_observing_waits()
        self._due.at_once = self._lookahead.shares_cores or observes
        while max_wait := self._max_wait(plan, now, now - started):
            self._tell_before_wait(plan, now)
            if max_wait > DOUBT_SECONDS:
                self.on_doubt()
            observes = False  # by what is awaited: what comes behind that may share messages
            came = await self._change_within(max_wait)
            now = clock()
            if not came:
                self._miss(now)
                break
        self.waited_seconds = now - started
        self._due.at_once = self._lookahead.shares_cores or observes
        return self._offer(plan, now)

    def _miss(self, now: float) -> None:
        self._expectation.miss(now)
        if self._expectation.overdue:
            self.on_doubt()

    def _tell_before_wait(self, plan: Plan, now: float) -> None:
        if len(self.advances) < MOST_ADVANCES:
            ready = len(self._buffer)
            due = self._due.while_waiting(plan.enough, ready, now)
            self._tell(self._lookahead.while_waiting(plan, ready, due))
        self._expectation.told(now)

    def _offer(self, plan: Plan, now: float) -> Offer:
        """What the plan verifies of what is there; the draft is told how to go on meanwhile."""
        buffer = self._buffer
        length = plan.length(buffer.draft_tokens)
        if len(self.advances) < MOST_ADVANCES:
            due = self._due.while_verifying(plan.enough)
            self._tell(self._lookahead.while_verifying(plan, length, len(buffer), due))
        self._expectation.told(now)
        return Offer(buffer.offer(length), self._branches(plan, length))

    def _branches(self, plan: Plan, length: int) -> tuple[Proposal, ...]:
        """Those that are worth it beside so many draft tokens."""
        if not self.takes_branches or not length:
            return ()
        draft_tokens = self._buffer.draft_tokens[:length]
        chosen = plan.branches_of(draft_tokens, self._buffer.branches(length))
        return tuple([self._buffer.branch_proposal(branch) for branch in chosen])

    def _tell(self, advance: Advance | None) -> None:
        if advance is not None:
            self.advances.put(advance)
            self._told.set()

    async def is_told(self, seconds: float) -> bool:
        """Whether there is something to tell the draft, waited for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        return self._told.is_set()

    async def _change_within(self, seconds: float) -> bool:
        """Wait until something comes; False when nothing does. Cheaper than a timeout."""
        loop = asyncio.get_running_loop()
        self._change = loop.create_future()
        timer = loop.call_later(seconds, self._note_change, False)
        try:
            return await self._change
        finally:
            timer.cancel()
            self._change = None

    def _note_change(self, came: bool) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(came)

    def follows(self, proposal: Proposal) -> bool:
        """Whether it begins on the path, of which the draft was told or which it has said."""
        return self._buffer.leads_to(proposal)

    def receive(self, proposal: Proposal) -> None:
        """Take draft tokens; an empty proposal at their end says that no more will come."""
        if not proposal.token_ids:
            self._end_at(proposal)
        elif not self._add(proposal, asyncio.get_running_loop().time()):
            return
        self._expectation.overdue = False
        self._note_change(True)

    def _end_at(self, proposal: Proposal) -> None:
        self._lookahead.exhausted = self._buffer.ends_at(proposal)
        if self._lookahead.exhausted:
            self._expectation.end()

    def _add(self, proposal: Proposal, now: float) -> bool:
        """Whether it continues the path."""
        tokens = len(proposal.token_ids)
        if count := self._buffer.add(proposal):
            self._lookahead.reach(proposal.position + tokens)
            self._expectation.come(count, proposal.drafter, now)
            return True
        if self._buffer.has(proposal):
            self._expectation.come_late(tokens, proposal.drafter, now)
        return False
