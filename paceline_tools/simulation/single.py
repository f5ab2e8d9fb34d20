"""The real round, session and pacer in virtual time, between a simulated target and draft.

Hours of rounds in seconds, the same every time: for choosing policies, and for predicting
what a deployment will gain.
"""

import asyncio
import math
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from draft_server.branched_path import BranchedPath, BranchEnd
from orchestrator.backends.draft_session import DraftSession
from orchestrator.round import rounds
from orchestrator.speculation.acceptance import JudgedToken
from orchestrator.speculation.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.measurements import DraftMeasurements
from orchestrator.speculation.pacer import FixedPacer, Pacer
from paceline.engine.core.cost import CostFit
from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Advance, Load, Opening
from paceline.protocol.verdict import TimedVerdict, Verdict, Verify

Result = TypeVar("Result")
MAX_DRAFT_LENGTH = 16
"""Most draft tokens of a round."""
FIXED_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""What the pacer is compared with."""
FIXED_WAIT_SECONDS = 5.0
"""How long a round of a fixed length waits for its draft tokens."""
NGRAM_SECONDS = 1e-5
"""What looking up one draft token takes."""
_VOCABULARY = 128
_KNOWN_DRAFT_TOKENS = 8
WRONG, _WRONG_TOO = 100, 101


@dataclass(frozen=True)
class World:
    """Times in seconds. acceptance: how likely the draft token for a position is right.

    step_seconds: a target step with one row; token_seconds: each further row. draft_seconds: a
    draft step. round_trip_seconds: to the draft; the target's is target_round_trip_seconds.
    auc: how well margins tell right draft tokens from wrong ones. second_acceptance: how likely the
    draft's second best token is right where its draft token is not; measured on the real pair.
    shares_cores: draft and target share their cores. free: the draft only looks up, in no time.
    prompt_tokens: which the target reads in prompt_seconds and the draft in draft_prompt_seconds.
    """

    step_seconds: float
    draft_seconds: float
    round_trip_seconds: float
    acceptance: Callable[[int], float]
    token_seconds: float = 0.0
    target_round_trip_seconds: float = 0.0005
    auc: float = 0.91
    second_acceptance: float = 0.47
    shares_cores: bool = False
    seed: int = 0
    free: bool = False
    prompt_tokens: int = 1
    prompt_seconds: float = 0.0
    draft_prompt_seconds: float = 0.0

    def draft_token(self, position: int) -> JudgedToken | None:
        """The draft's draft token for `position`; None where it has none."""
        state = mix(mix(mix(0, self.seed), position), 1)
        right = _uniform(state) < self.acceptance(position)
        mean = 4.0 * (self.auc if right else 1.0 - self.auc)
        return JudgedToken(right, -math.log(1.0 - _uniform(mix(state, 2))) * mean)

    def verify_seconds(self, draft_tokens: int) -> float:
        """Of a target step that verifies so many draft tokens."""
        return self.step_seconds + self.token_seconds * draft_tokens

    def second(self, position: int) -> int:
        """The draft's second best token there."""
        draft_token = self.draft_token(position)
        if draft_token is not None and draft_token.right:
            return WRONG
        state = mix(mix(mix(0, self.seed), position), 3)
        return truth(position) if _uniform(state) < self.second_acceptance else _WRONG_TOO


@dataclass
class Outcome:
    """What a run came to.

    By round: lengths: draft tokens verified; positions: where it began; arrivals: when its verdict
    came, in seconds.
    """

    tokens: int = 0
    seconds: float = 0.0
    lengths: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    drafted: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Speed."""
        return self.tokens / self.seconds


def simulate(world: World, pacer: Pacer, measurements: DraftMeasurements, tokens: int) -> Outcome:
    """One stream of so many tokens."""
    return in_virtual_time(_run(world, pacer, measurements, tokens))


def simulate_policy(world: World, draft_length: int | None, tokens: int) -> Outcome:
    """One stream by the pacer that knows nothing yet (None), or with a fixed draft length."""
    measurements = DraftMeasurements()
    pacer: Pacer = AdaptivePacer(measurements, MAX_DRAFT_LENGTH, 1.0)
    if draft_length is not None:
        pacer = FixedPacer(draft_length, FIXED_WAIT_SECONDS)
    return simulate(world, pacer, measurements, tokens)


def truth(position: int) -> int:
    """The target's token."""
    return position % 97


async def _run(world: World, pacer: Pacer, measurements: DraftMeasurements, tokens: int) -> Outcome:
    prompt = (0,) * world.prompt_tokens
    opening = Opening("simulated", prompt, SamplingParams(temperature=0.0), 0, tokens)
    session = DraftSession(
        opening,
        _VOCABULARY,
        measurements,
        shares_cores=world.shares_cores,
        free=world.free,
        round_trip_seconds=world.round_trip_seconds,
    )
    if pacer.eager:
        session.begin()
    outcome = Outcome()
    stream = CountedStream(tokens, outcome)
    draft = asyncio.create_task(_Draft(world, session, outcome).run())
    loop = asyncio.get_running_loop()
    started = loop.time()
    await rounds(_Target(world), session, pacer, stream)
    outcome.seconds = loop.time() - started
    draft.cancel()
    return outcome


class CountedStream:
    """An output of so many tokens that only counts what came."""

    def __init__(self, remaining: int, outcome: Outcome) -> None:
        self.remaining = remaining
        self._outcome = outcome

    def emit(self, timed: TimedVerdict) -> None:
        """Count its tokens."""
        verdict = timed.verdict
        self.remaining -= len(verdict.token_ids)
        self._outcome.tokens += len(verdict.token_ids)
        self._outcome.lengths.append(verdict.verified)
        self._outcome.positions.append(verdict.position)
        self._outcome.arrivals.append(timed.arrived_seconds)

    def settle(self) -> None:
        """There is no text."""

    async def room(self) -> None:
        """There is always."""


class _Target:
    """Verifies: the draft tokens that are the truth, then the truth."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: asyncio.Queue[Verify] = asyncio.Queue()

    async def ask(self, verify: Verify) -> None:
        self._asked.put_nowait(verify)

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        world, half = self._world, self._world.target_round_trip_seconds / 2
        cost = _known_costs(world)
        position, steps, verify, asked = world.prompt_tokens, 0, Verify(), 0.0
        reading = world.prompt_seconds
        while True:
            if self._asked.qsize() or not steps:
                verify = await self._asked.get()
                asked = asyncio.get_running_loop().time()
                steps = 1 + verify.continue_steps
                await asyncio.sleep(2 * half)
            draft_tokens = verify.proposal.token_ids if verify.proposal else ()
            steps, verify = steps - 1, Verify()
            seconds, reading = reading + world.verify_seconds(len(draft_tokens)), 0.0
            await asyncio.sleep(seconds)
            cost.observe(1 + len(draft_tokens), world.verify_seconds(len(draft_tokens)))
            accepted = agreed(draft_tokens, position)
            decided = tuple(truth(position + index) for index in range(accepted + 1))
            verdict = Verdict(
                position=position,
                token_ids=decided,
                verified=len(draft_tokens),
                accepted=accepted,
                step_seconds=seconds,
                load=Load(sessions=1, batched_tokens=len(draft_tokens) + 1),
                cost_model=cost.model,
            )
            yield TimedVerdict(verdict, asyncio.get_running_loop().time(), asked)
            position += len(decided)


def _known_costs(world: World) -> CostFit:
    """What a server that has run for a while knows of its steps."""
    costs = CostFit()
    for draft_tokens in range(_KNOWN_DRAFT_TOKENS):
        costs.observe(1 + draft_tokens, world.verify_seconds(draft_tokens))
    return costs


class _Draft:
    """A draft server: draft tokens ahead within its lookahead, and starts over when told otherwise.

    What it grows of branches costs no time: they are rows of the same steps.
    """

    def __init__(self, world: World, session: DraftSession, outcome: Outcome) -> None:
        self._world = world
        self._session = session
        self._outcome = outcome
        self._path = BranchedPath((0,) * world.prompt_tokens)
        self._lookahead = self._ngram_lookahead = self._branches = 0
        self._exhausted = self._read = False
        self._news = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            while True:
                draft_token = self._world.draft_token(len(self._path))
                branches = self._path.likeliest_branches(self._branches)
                if self._has_room(Drafter.NGRAM if draft_token is None else draft_token.drafter):
                    await self._draft(draft_token, branches)
                elif branches:
                    await asyncio.sleep(self._world.draft_seconds)
                    self._grow(branches)
                else:
                    self._news.clear()
                    await self._news.wait()

    def _has_room(self, drafter: Drafter) -> bool:
        lookahead = self._lookahead if drafter is Drafter.MODEL else self._ngram_lookahead
        return not self._exhausted and len(self._path) - self._path.committed < lookahead

    async def _draft(self, draft_token: JudgedToken | None, branches: list[BranchEnd]) -> None:
        """Make a draft token, or say that there is none; news that came meanwhile may make it void.

        Branches grow in the same step of the model.
        """
        position, digest = len(self._path), self._path.digest
        await asyncio.sleep(self._seconds(draft_token))
        if (len(self._path), self._path.digest) == (position, digest):
            self._draft_token(position, digest, draft_token)
        if draft_token is not None and draft_token.drafter is Drafter.MODEL:
            self._grow(branches)

    def _draft_token(self, position: int, digest: int, draft_token: JudgedToken | None) -> None:
        if draft_token is None:
            self._exhausted = True
            self._later(self._session.receive, Proposal(position, digest, ()))
            return
        self._path.append([self._made(position, draft_token)])
        self._outcome.drafted += 1
        self._later(self._session.receive, self._path.proposal(position))

    def _grow(self, branches: list[BranchEnd]) -> None:
        for end in branches:
            position = len(self._path.tokens_to(end))
            draft_token = self._world.draft_token(position)
            if draft_token is not None and self._path.holds(end):
                self._outcome.drafted += 1
                grown = self._path.grow(end, self._made(position, draft_token))
                self._later(self._session.receive, grown)

    def _made(self, position: int, draft_token: JudgedToken) -> DraftToken:
        token = truth(position) if draft_token.right else WRONG
        second = self._world.second(position) if draft_token.drafter is Drafter.MODEL else None
        return DraftToken(token, draft_token.confidence, draft_token.drafter, second)

    def _seconds(self, draft_token: JudgedToken | None) -> float:
        """Of looking up, or of a draft step; the first one reads the prompt."""
        if draft_token is None or draft_token.drafter is Drafter.NGRAM:
            return NGRAM_SECONDS
        reading = 0.0 if self._read else self._world.draft_prompt_seconds
        self._read = True
        return reading + self._world.draft_seconds

    async def _hear(self) -> None:
        while True:
            self._later(self._apply, await self._session.advances.get())

    def _apply(self, advance: Advance) -> None:
        self._path.commit(advance.token_ids)
        self._lookahead = advance.lookahead
        self._ngram_lookahead = max(advance.lookahead, advance.ngram_lookahead)
        self._branches = advance.branches if advance.lookahead else 0
        self._exhausted = False
        self._news.set()

    def _later(self, function: Callable[[Any], None], argument: object) -> None:
        delay = self._world.round_trip_seconds / 2
        asyncio.get_running_loop().call_later(delay, function, argument)


def agreed(draft_tokens: tuple[int, ...], position: int) -> int:
    """How many of the tokens from `position` on are the truth, up to the first that is not."""
    for index, draft_token in enumerate(draft_tokens):
        if draft_token != truth(position + index):
            return index
    return len(draft_tokens)


def _uniform(state: int) -> float:
    return state / 2**64


class _VirtualTime(selectors.SelectSelector):
    """A selector that sleeps in no time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Nothing ever comes from outside."""
        if timeout is None:
            raise RuntimeError("all wait, and nothing will happen")
        self.now += timeout
        return []


def in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end on an event loop whose clock runs as fast as it can."""
    selector = _VirtualTime()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
