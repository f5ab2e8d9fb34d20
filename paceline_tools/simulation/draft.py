"""The simulated draft: the draft's own look-ahead, with what a world drafts in place of a model."""

import asyncio
from collections.abc import Callable

from draft_server.branched_path import BranchEnd
from draft_server.run_ahead import RunAhead
from paceline.engine.core.scheduler import Step
from paceline.engine.interfaces import Span, StepReport
from paceline.mailbox import Mailbox
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.session import Opening
from paceline_tools.simulation.engine import Session, SimulatedEngine, rows_and_prompt_tokens
from paceline_tools.simulation.world import World


class SimulatedDraft:
    """A draft server."""

    def __init__(self, world: World) -> None:
        """What its steps take is stated by `world`."""
        self._world = world
        self.engine = SimulatedEngine(self._step_seconds)

    def _step_seconds(self, step: Step[Session]) -> float:
        world = self._world
        rows, prompts = rows_and_prompt_tokens(step)
        seconds = world.draft_seconds + world.draft_token_seconds * (rows - 1) if rows else 0.0
        return seconds + prompts / world.prompt.tokens * world.prompt.draft_seconds


class Wire:
    """The connection to a draft. What is said in one moment arrives in one message."""

    def __init__(self, round_trip_seconds: float, receive: Callable[[Proposal], None]) -> None:
        """receive: takes what arrives at the orchestrator."""
        self._latency = round_trip_seconds / 2
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._message: list[Proposal] = []
        self._sent_at = -1.0

    async def carry(self, advances: Mailbox[Advance], post: Callable[[Advance], None]) -> None:
        """Take advances to the draft, and hand them to `post` there."""
        while True:
            self._loop.call_later(self._latency, post, await advances.get())

    def deliver(self, proposal: Proposal) -> None:
        """Take a proposal to the orchestrator."""
        now = self._loop.time()
        if not self._message or self._sent_at != now:
            self._message, self._sent_at = [], now
            self._loop.call_later(self._latency, self._arrive, self._message)
        self._message.append(proposal)

    def _arrive(self, message: list[Proposal]) -> None:
        for proposal in message:
            self._receive(proposal)
        message.clear()


class Drafting:
    """One session on the draft: its draft tokens, and its branches as rows of the same steps."""

    def __init__(
        self,
        draft: SimulatedDraft,
        world: World,
        opening: Opening,
        deliver: Callable[[Proposal], None],
    ) -> None:
        """Begin behind the opening's tokens, without credit. deliver: takes what is drafted."""
        self._engine = draft.engine
        self._world = world
        self._deliver = deliver
        self._run_ahead = RunAhead(opening)
        self._unread = len(opening.prompt_token_ids) if world.prompt.draft_seconds else 0
        self._same = 0  # leading tokens that are as the step found them
        self._next: DraftToken | None = None  # what the step makes
        self._branches: list[BranchEnd] = []  # what the step grows
        self._exhausted = False
        self._tokens: dict[int, DraftToken | None] = {}
        self.drafted = 0

    def post(self, advance: Advance) -> None:
        """Take news and credit."""
        self._run_ahead.post(advance)
        self._exhausted = False
        self._engine.wake(self)

    @property
    def idle(self) -> bool:
        """Whether it has work does not depend on what others do."""
        return False

    def plan(self) -> Span | None:
        """The prompt; then a row for the next draft token, and one for each branch."""
        self._catch_up()
        self._look_up()
        position = self._same = len(self._run_ahead.tokens)
        wants = self._run_ahead.wanted > 0
        if wants and self._unread:
            return Span(0, (0,) * self._unread, 0)
        self._next = self._token(position) if wants else None
        self._branches = self._find_branches()
        rows = len(self._branches) + (self._next is not None)
        return Span(position, (0,) * rows, rows) if rows else None

    def _find_branches(self) -> list[BranchEnd]:
        found: list[BranchEnd] = []
        while (end := self._run_ahead.branch_to_grow(found, None)) is not None:
            found.append(end)
        return found

    def commit(self, report: StepReport) -> None:
        """Draft the next token, unless the path has left what it follows; branches likewise."""
        self._run_ahead.observe_cost(report.cost_model)
        if self._unread:
            self._unread = 0
            return
        position = self._same
        self._catch_up()
        if self._next is not None and self._same == position == len(self._run_ahead.tokens):
            self._propose([self._next])
        for end in self._branches:
            self._grow(end)

    def _catch_up(self) -> None:
        """Hear the news; what was a branch until now is said again, as draft tokens."""
        self._same = min(self._same, self._run_ahead.catch_up())
        if taken := self._run_ahead.taken_branch():
            self._hand_out(taken)

    def _look_up(self) -> None:
        """Draft what lookup knows; say so, once for each Advance, where nothing is known."""
        while not self._exhausted and (room := self._run_ahead.wanted_of_lookup) > 0:
            position = len(self._run_ahead.tokens)
            token = self._token(position)
            if token is not None and token.drafter is Drafter.MODEL:
                return
            known = self._known(position, room)
            self._exhausted = not known
            self._propose(known)

    def _known(self, position: int, room: int) -> list[DraftToken]:
        """What lookup drafts from there on."""
        known: list[DraftToken] = []
        while len(known) < room:
            token = self._token(position + len(known))
            if token is None or token.drafter is Drafter.MODEL:
                break
            known.append(token)
        return known

    def _token(self, position: int) -> DraftToken | None:
        """What the world drafts there, on any path; it is drawn once."""
        if position not in self._tokens:
            self._tokens[position] = self._world.draft_token(position)
        return self._tokens[position]

    def _grow(self, end: BranchEnd) -> None:
        if not self._run_ahead.holds(end):
            return
        token = self._token(len(self._run_ahead.tokens_to(end)))
        grown = self._run_ahead.grow(end, token) if token is not None else None
        if grown is not None:
            self.drafted += 1
            self._deliver(grown)

    def _propose(self, tokens: list[DraftToken]) -> None:
        self.drafted += len(tokens)
        self._hand_out(self._run_ahead.propose(tokens))

    def _hand_out(self, proposal: Proposal) -> None:
        """Deliver what follows the path, up to its end."""
        self._deliver(proposal)
        self._run_ahead.delivered()
