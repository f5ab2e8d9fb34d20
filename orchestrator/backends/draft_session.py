"""One session on a draft server, as the round sees it: tokens at hand, credit, expectations."""

import asyncio

from orchestrator.speculation.draft_buffer import ProposalBuffer
from orchestrator.speculation.draft_length import LATE
from orchestrator.speculation.measurements import DraftMeasurements, Mean
from orchestrator.speculation.plan import DraftState, Plan
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.session import Advance, Opening
from paceline.protocol.verdict import TimedVerdict

BEGIN_LOOKAHEAD = 6
"""Draft tokens that the draft may make while the target reads the prompt."""
_BEGIN = Plan(0, lookahead=BEGIN_LOOKAHEAD, ngram_lookahead=BEGIN_LOOKAHEAD)
DUE = 0.8
"""Draft tokens are wanted when this share of the time to the next verdict is over."""
LATER = (1.2, 1.8)
"""When those made later may come together, where only so many end a wait; else each at once."""
HELD_DRAFT_TOKENS = 3
"""Draft tokens that are worth a message of their own, to come together."""
OVERDUE = 3.0
"""A draft token that takes so many times as long as usual is not waited for again before it
comes."""
SOON = 0.25
"""A draft token that is overdue is still expected within this share of the usual wait."""


MOST_ADVANCES = 64
"""Advances that may wait to be sent. What is decided then is told to a draft that reads again."""


class DraftSession:
    """Draft tokens come in by receive, news go out by the queue of advances.

    It is the round's draft for as long as its server lives. Where draft and target share their
    cores the draft gets credit for one draft token at a time, so that it never works while the
    target does.
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
        self._round_trip_seconds = round_trip_seconds
        self._opening = opening
        self._measurements = measurements
        self._shares_cores = shares_cores
        self._free = free
        self._lookahead = lookahead
        committed = opening.prompt_token_ids + opening.output_token_ids
        self._buffer = ProposalBuffer(committed, vocabulary_size)
        self._news: list[int] = []
        self._position = self._drafted = len(committed)
        self._granted = (0, 0)
        self._cold = not free
        self._overdue = self._exhausted = self._held = False
        self._at_once = True
        self._awaited = 0
        self._sessions = 1
        self._due_since: float | None = None
        self._answer = Mean()
        self._answered = 0.0
        self.waited_seconds = 0.0
        self._restarts = self._unanswered = True
        self._went_over = False  # to a branch
        self._change: asyncio.Future[bool] | None = None
        self.advances: asyncio.Queue[Advance] = asyncio.Queue(MOST_ADVANCES)

    @property
    def state(self) -> DraftState:
        """What there is to plan with."""
        opening = self._opening_seconds if self._cold else 0.0
        return DraftState(
            ready=not (self._overdue or (self.is_full and not len(self._buffer))),
            shares_cores=self._shares_cores,
            opening_seconds=opening,
            free=self._free,
            hit_rate=self._measurements.hit_rate.value,
        )

    @property
    def is_full(self) -> bool:
        """Whether the draft has no position left for a draft token that is not here."""
        return self._buffer.end >= self._opening.max_length - 1

    def begin(self) -> None:
        """Have the draft read its prompt while the target does, where they do not share cores.

        What it drafts by then is there for the first round.
        """
        if not self._shares_cores:
            self._tell(_BEGIN, BEGIN_LOOKAHEAD, ())

    def share_cores(self, shares: bool) -> None:
        """Whether the target that the stream has by now computes on the draft's cores."""
        self._shares_cores = shares

    def lose(self) -> None:
        """The server is gone: nobody waits any longer."""
        self._exhausted = True
        self._note_change(True)

    def advance(self, timed: TimedVerdict) -> tuple[DraftToken, ...]:
        """Commit what was decided, to be told with the next take."""
        verdict = timed.verdict
        judged = tuple(self._buffer.draft_tokens[: verdict.verified])
        self._news += verdict.token_ids
        asked = max(timed.asked_seconds, self._answered)
        self._answered = timed.arrived_seconds
        self._answer.observe(self._answered - asked)
        self._sessions = verdict.load.sessions
        self._exhausted = False
        stayed = self._buffer.commit(verdict.token_ids)
        self._unanswered = not len(self._buffer)
        if not stayed:
            self._due_since = None
            self._went_over = not self._unanswered
        self._restarts |= self._due_since is None
        return judged

    def is_short_of(self, plan: Plan) -> bool:
        """Whether a draft token is to come that the plan would wait for."""
        return self._max_wait(plan, 0.0) > 0

    def _max_wait(self, plan: Plan, waited: float) -> float:
        """Seconds the plan would wait for one more token; 0 when it would not, or none comes."""
        if self._exhausted or self.is_full or self._buffer.last in self._opening.stop_token_ids:
            return 0.0
        return plan.max_wait(self._buffer.draft_tokens, self._expected(), waited)

    async def take(self, plan: Plan) -> Proposal:
        """What is there, waited for as the plan says.

        After a wait in vain there are no more waits until the draft delivers.
        """
        now = asyncio.get_running_loop().time
        started = now()
        observes = self._measurements.may_observe_waits(self._sessions)
        self._at_once = self._shares_cores or observes
        while max_wait := self._max_wait(plan, now() - started):
            self._tell_what_is_awaited(plan)
            observes = False  # by what is awaited: what comes behind that may share messages
            if not await self._change_within(max_wait):
                self._overdue = self._is_overdue
                break
        self._at_once = self._shares_cores or observes
        self.waited_seconds = now() - started
        length = plan.length(self._buffer.draft_tokens)
        # What is being verified is as good as committed: the lookahead lies behind it.
        behind = 0 if self._shares_cores else length
        self._tell(plan, plan.lookahead + behind, self._moments(*self._next_verdict(plan.enough)))
        return self._buffer.offer(length)

    def _tell_what_is_awaited(self, plan: Plan) -> None:
        """News and credit, of which some is for draft tokens that are waited for."""
        enough = plan.enough or 0
        # All that are waited for will be verified: nothing more need be told when they come.
        lookahead = plan.lookahead if self._shares_cores else plan.lookahead + enough
        self._tell(plan, max(lookahead, len(self._buffer) + 1), self._due(plan.enough), enough)

    def _next_verdict(self, enough: int | None) -> tuple[float, ...]:
        """In how many seconds draft tokens are wanted for the round to come."""
        usual = self._answer.value or 0.0
        shares = (DUE,) if enough is None else (DUE, *LATER)
        return tuple(share * usual for share in shares)

    def _due(self, enough: int | None) -> tuple[float, ...]:
        """When tokens are wanted that are waited for, should some be late, and those behind."""
        missing = (enough or 0) - len(self._buffer)
        if missing <= 0:
            return ()
        following = self._measurements.wait(restart=False) or 0.0
        wait = (self._expected() or 0.0) + (missing - 1) * following
        late = LATE * wait
        behind = (max(late, wait + moment) for moment in self._next_verdict(enough))
        return self._moments(late, *behind)

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
            self._exhausted = self._buffer.ends_at(proposal)
            if self._exhausted:
                self._due_since = None  # what comes later is not what was waited for
                self._note_answer(came=False)
        elif count := self._buffer.add(proposal):
            self._drafted = proposal.position + len(proposal.token_ids)
            self._note_answer(came=True)
            self._learn(count, proposal.drafter)
        elif self._buffer.has(proposal):
            self._note_late(proposal)
            return
        else:
            return
        self._overdue = False
        self._note_change(True)

    def _note_answer(self, *, came: bool) -> None:
        """Whether there is a draft token at all, once for each path."""
        if self._unanswered:
            self._measurements.hit_rate.observe(came)
            self._unanswered = False

    def _note_late(self, proposal: Proposal) -> None:
        """Draft tokens for what is decided by now, and right: more is to come."""
        if self._cold:
            self._learn(len(proposal.token_ids), proposal.drafter)
        else:
            self._follows()

    def _learn(self, count: int, drafter: Drafter) -> None:
        """How long it took."""
        if self._due_since is not None:
            seconds = asyncio.get_running_loop().time() - self._due_since
            if self._went_over and seconds < self._round_trip_seconds:
                return  # it was under way before the draft heard of the rejection
            if self._cold and drafter is Drafter.MODEL:
                self._measurements.observe_opening(len(self._opening.prompt_token_ids), seconds)
            elif not self._held or (self._restarts and count >= self._awaited > 0):
                seconds = self._of_first(seconds, count)
                self._measurements.observe_wait(seconds, drafter, restart=self._restarts)
        # What lookup draft tokens comes before the model has read the prompt.
        self._cold = self._cold and drafter is not Drafter.MODEL
        self._follows()

    def _follows(self) -> None:
        """The draft is on the path: the next draft token follows one that has come."""
        self._restarts = self._went_over = False
        self._due_since = asyncio.get_running_loop().time() if self._at_work else None

    def _of_first(self, seconds: float, count: int) -> float:
        """What the first token took where `count` came together; of those that follow, each."""
        following = (self._measurements.wait(restart=False) or 0.0) if self._restarts else 0.0
        return max(seconds / count, seconds - (count - 1) * following)

    def _expected(self) -> float | None:
        """Seconds until the next draft token; None while nobody knows."""
        usual = self._usual
        if usual is None or self._due_since is None:
            return usual
        elapsed = asyncio.get_running_loop().time() - self._due_since
        return max(usual - elapsed, SOON * usual)

    @property
    def _is_overdue(self) -> bool:
        """Whether the next draft token takes far longer than it should."""
        usual = self._usual
        if usual is None or self._due_since is None:
            return True
        return asyncio.get_running_loop().time() - self._due_since > OVERDUE * usual

    @property
    def _usual(self) -> float | None:
        if self._cold:
            return self._opening_seconds
        return self._measurements.wait(restart=self._restarts)

    @property
    def _opening_seconds(self) -> float | None:
        return self._measurements.opening_seconds(len(self._opening.prompt_token_ids))

    def _moments(self, *seconds: float) -> tuple[float, ...]:
        """When draft tokens must leave the draft to be here in so many seconds.

        Counted there, from when it is told: a way there and a way back are under way.
        """
        if self._at_once:
            return ()
        under_way = self._round_trip_seconds
        return tuple(min(1.0, one - under_way) for one in seconds if one > under_way)

    def _tell(
        self, plan: Plan, lookahead: int, due_seconds: tuple[float, ...], awaited: int = 0
    ) -> None:
        """Send news and credit, where they matter to what the draft does."""
        granted = (
            (lookahead, plan.ngram_lookahead) if self._lookahead is None else (self._lookahead,) * 2
        )
        if any(granted):
            matters = self._news or granted > self._granted or self._is_worth_holding(due_seconds)
        else:
            matters = self._at_work
        if matters and not self.advances.full():
            news, self._news = tuple(self._news), []
            advance = Advance(self._position, news, *granted, due_seconds, awaited, plan.branches)
            self.advances.put_nowait(advance)
            self._position += len(news)
            self._drafted = self._position + len(self._buffer)
            self._granted = granted
            self._held, self._awaited = bool(due_seconds), awaited
        if self._due_since is None and self._at_work:
            self._due_since = asyncio.get_running_loop().time()

    def _is_worth_holding(self, due_seconds: tuple[float, ...]) -> bool:
        """Whether enough draft tokens come before they are due that one message saves others."""
        one = self._measurements.wait(restart=False)
        credit = self._position + self._granted[0] - self._drafted
        if one is None or self._held or not due_seconds:
            return False
        return credit >= HELD_DRAFT_TOKENS and due_seconds[-1] >= HELD_DRAFT_TOKENS * one

    @property
    def _at_work(self) -> bool:
        """Whether the draft has credit left, as far as it was told, and has not said it is done."""
        credit = max(self._granted) if self._free else self._granted[0]
        return not self._exhausted and self._position + credit > self._drafted
