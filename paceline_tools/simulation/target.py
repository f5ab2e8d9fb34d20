"""The simulated target: it verifies what the orchestrator's rounds ask for."""

import asyncio
import sys
from collections.abc import AsyncIterator

from paceline.engine.core.scheduler import Step
from paceline.engine.interfaces import Span, SpanBranch, StepReport
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import TimedVerdict, Verdict, Verify
from paceline_tools.simulation.engine import Session, SimulatedEngine, rows_and_prompt_tokens
from paceline_tools.simulation.world import World, truth
from target_server.branches import fitting

_KNOWN_ROWS = 8


class SimulatedTarget:
    """A target server, and the orchestrator's one thread, which takes its verdicts one by one."""

    def __init__(self, world: World) -> None:
        """What its steps take is stated by `world`."""
        self._world = world
        self.engine = SimulatedEngine(self._step_seconds)
        self._handled_at = 0.0
        self._learn_costs()

    def _step_seconds(self, step: Step[Session]) -> float:
        rows, prompts = rows_and_prompt_tokens(step)
        seconds = self._world.verify_seconds(rows - 1) if rows else 0.0
        return seconds + prompts / self._world.prompt.tokens * self._world.prompt.target_seconds

    def _learn_costs(self) -> None:
        """What a server that has run for a while knows of its steps."""
        for rows in range(1, _KNOWN_ROWS + 1):
            span = Span(1, (0,) * rows, rows)
            seconds = self._world.verify_seconds(rows - 1)
            self.engine.scheduler.statistics.observe([span], -seconds, 0.0)

    def handled_at(self, arrived: float) -> float:
        """When the round has a verdict that came then: those that came before it go first."""
        self._handled_at = max(self._handled_at, arrived) + self._world.handling_seconds
        return self._handled_at


class TargetSession:
    """One session: the round's target at one end, and what the engine steps at the other.

    A round trip lies between. A draft token is accepted that is the truth.
    """

    def __init__(self, target: SimulatedTarget, world: World, max_tokens: int) -> None:
        """Begin behind the world's prompt."""
        self._target = target
        self._latency = world.target_round_trip_seconds / 2
        self._loop = asyncio.get_running_loop()
        self._path = TokenPath((0,) * world.prompt.tokens)
        self._max_length = world.prompt.tokens + max_tokens
        self._unread = world.prompt.tokens if world.prompt.target_seconds else 0
        self._inbox: Verify | None = None
        self._asked_for = Verify()
        self._steps = 0
        self._draft_tokens: tuple[int, ...] = ()
        self._branches: tuple[SpanBranch, ...] = ()
        self._asked = 0.0
        self._verdicts: asyncio.Queue[TimedVerdict] = asyncio.Queue()

    async def ask(self, verify: Verify) -> None:
        """See orchestrator.round_loop.Target."""
        self._asked = self._loop.time()
        self._loop.call_later(self._latency, self._hear, verify)

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        """See orchestrator.round_loop.Target."""
        while True:
            yield await self._verdicts.get()

    def _hear(self, verify: Verify) -> None:
        self._inbox = verify
        self._target.engine.wake(self)

    @property
    def idle(self) -> bool:
        """Whether the orchestrator thinks."""
        return not self._steps and self._inbox is None

    def plan(self) -> Span | None:
        """The prompt; then the last token, and the draft tokens to verify behind it."""
        if self._inbox is not None:
            self._asked_for, self._steps = self._inbox, 1 + self._inbox.continue_steps
            self._inbox = None
        if not self._steps:
            return None
        if self._unread:
            return Span(0, (0,) * self._unread, 0)
        self._draft_tokens = self._proposed()
        self._branches = self._beside(self._draft_tokens)
        position = len(self._path) - 1
        beside = (0,) * sum(len(branch.token_ids) for branch in self._branches)
        tokens = (self._path.tokens[position], *self._draft_tokens, *beside)
        return Span(position, tokens, len(tokens))

    def _proposed(self) -> tuple[int, ...]:
        """What of the proposal lies beyond the committed tokens, the last one of all left out."""
        if self._asked_for.proposal is None:
            return ()
        room = self._max_length - len(self._path) - 1
        return self._path.remainder(self._asked_for.proposal)[:room]

    def _beside(self, draft_tokens: tuple[int, ...]) -> tuple[SpanBranch, ...]:
        """The branches that fit these, as a target server has it."""
        end = self._max_length - 1
        return fitting(self._path, draft_tokens, self._asked_for.branches, end, sys.maxsize)

    def _taken(self, position: int) -> int:
        """Tokens of the branch that the target takes where it picks another token than drafted."""
        return max(
            (
                _agreed(branch.token_ids, position)
                for branch in self._branches
                if branch.position == position
            ),
            default=0,
        )

    def commit(self, report: StepReport) -> None:
        """Decide, and send the verdict."""
        if self._unread:
            self._unread = 0
            return
        position, draft_tokens = len(self._path), self._draft_tokens
        accepted = _agreed(draft_tokens, position)
        taken = self._taken(position + accepted) if accepted < len(draft_tokens) else 0
        decided = tuple(truth(position + index) for index in range(accepted + taken + 1))
        self._path.extend(decided)
        self._asked_for = Verify()
        self._steps = self._steps - 1 if len(self._path) < self._max_length else 0
        verdict = Verdict(
            position=position,
            token_ids=decided,
            verified=len(draft_tokens),
            accepted=accepted,
            branch_verified=sum(len(branch.token_ids) for branch in self._branches),
            branch_accepted=taken,
            step_seconds=report.seconds,
            load=report.load,
            cost_model=report.cost_model,
        )
        self._loop.call_later(self._latency, self._arrive, verdict)

    def _arrive(self, verdict: Verdict) -> None:
        arrived = self._loop.time()
        timed = TimedVerdict(verdict, arrived, self._asked)
        self._loop.call_at(self._target.handled_at(arrived), self._verdicts.put_nowait, timed)


def _agreed(draft_tokens: tuple[int, ...], position: int) -> int:
    """How many of the tokens from `position` on are the truth, up to the first that is not."""
    for index, token in enumerate(draft_tokens):
        if token != truth(position + index):
            return index
    return len(draft_tokens)
