"""Many streams in virtual time: the real rounds, sessions and pacers, one target and one draft.

Steps are shared as the engine shares them, and so is the orchestrator's own time: verdicts that
come together are handled one after the other.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from orchestrator.backends.draft_session import DraftSession
from orchestrator.round import rounds
from orchestrator.speculation.measurements import DraftMeasurements
from orchestrator.speculation.pacer import Pacer
from paceline.engine.core.gather import DECODE_SHARE, Gather
from paceline.protocol.draft_path import DraftPath
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Advance, CostModel, Load, Opening
from paceline.protocol.verdict import TimedVerdict, Verdict, Verify
from paceline_tools.simulation.single import (
    WRONG,
    CountedStream,
    Outcome,
    World,
    agreed,
    in_virtual_time,
    truth,
)

_VOCABULARY = 128
_APART = 100_003
"""Positions between streams, so that each has draft tokens of its own."""


@dataclass(frozen=True)
class Crowd:
    """So many streams of so many tokens in one world.

    handling_seconds: the orchestrator's own, of each verdict. draft_token_seconds: of each further
    stream in a draft step.
    """

    world: World
    streams: int
    tokens: int
    handling_seconds: float = 0.0003
    draft_token_seconds: float = 0.00005


def simulate_load(
    load_class: Crowd, make_pacer: Callable[[DraftMeasurements], Pacer]
) -> list[Outcome]:
    """All streams at once, each to its end. They share a record; each has a pacer."""
    return in_virtual_time(_run(load_class, make_pacer))


async def _run(
    load_class: Crowd, make_pacer: Callable[[DraftMeasurements], Pacer]
) -> list[Outcome]:
    measurements, target, draft = DraftMeasurements(), _Target(load_class), _Draft(load_class)
    engines = [asyncio.create_task(engine.run()) for engine in (target, draft)]
    streams = (
        _stream(load_class, index * _APART, make_pacer(measurements), measurements, target, draft)
        for index in range(load_class.streams)
    )
    outcomes = await asyncio.gather(*streams)
    for engine in engines:
        engine.cancel()
    return list(outcomes)


async def _stream(
    load_class: Crowd,
    offset: int,
    pacer: Pacer,
    measurements: DraftMeasurements,
    target: "_Target",
    draft: "_Draft",
) -> Outcome:
    opening = Opening("simulated", (0,), SamplingParams(temperature=0.0), 0, load_class.tokens)
    session = DraftSession(opening, _VOCABULARY, measurements, shares_cores=False)
    outcome = Outcome()
    drafter = _Drafter(draft, load_class.world, session, outcome, offset)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with target.session() as call, draft.session(drafter):
        await rounds(call, session, pacer, CountedStream(load_class.tokens, outcome))
    outcome.seconds = loop.time() - started
    return outcome


class _Call:
    """One session on the target."""

    def __init__(self, target: "_Target") -> None:
        self._target = target
        self._verdicts: asyncio.Queue[TimedVerdict] = asyncio.Queue()
        self._verify = Verify()
        self._position, self._asked = 1, 0.0
        self.steps = 0

    async def ask(self, verify: Verify) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._target.half_round_trip, self._arrive, verify, loop.time())

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        while True:
            yield await self._target.handle(await self._verdicts.get())

    def _arrive(self, verify: Verify, asked: float) -> None:
        self._verify, self._asked = verify, asked
        self.steps = 1 + verify.continue_steps
        self._target.wake(self)

    def take(self) -> tuple[int, ...]:
        """The draft tokens to verify in the step that begins."""
        verify, self._verify = self._verify, Verify()
        self.steps -= 1
        return verify.proposal.token_ids if verify.proposal else ()

    def commit(self, draft_tokens: tuple[int, ...], step: Verdict) -> None:
        """Deliver what the step decides; it has the step's own figures."""
        now = asyncio.get_running_loop().time()
        accepted = agreed(draft_tokens, self._position)
        decided = tuple(truth(self._position + index) for index in range(accepted + 1))
        verdict = dataclasses.replace(
            step,
            position=self._position,
            token_ids=decided,
            verified=len(draft_tokens),
            accepted=accepted,
            queue_seconds=max(
                0.0, now - self._asked - self._target.half_round_trip - step.step_seconds
            ),
        )
        self._position += len(decided)
        asyncio.get_running_loop().call_later(
            self._target.half_round_trip,
            self._verdicts.put_nowait,
            TimedVerdict(verdict, asked_seconds=self._asked),
        )


class _Target:
    """An engine that steps all sessions that asked, and waits for others as the real one does."""

    def __init__(self, load_class: Crowd) -> None:
        self._world = load_class.world
        self._handling = load_class.handling_seconds
        self.half_round_trip = load_class.world.target_round_trip_seconds / 2
        self._sessions: list[_Call] = []
        self._news = asyncio.Event()
        self._gather = Gather()
        self._last_seconds = load_class.world.step_seconds
        self._orchestrator = asyncio.Lock()

    @contextlib.contextmanager
    def session(self) -> Iterator[_Call]:
        call = _Call(self)
        self._sessions.append(call)
        try:
            yield call
        finally:
            self._sessions.remove(call)
            self._gather.forget(call)

    def wake(self, call: _Call) -> None:
        self._gather.asked(call, asyncio.get_running_loop().time())
        self._news.set()

    async def handle(self, timed: TimedVerdict) -> TimedVerdict:
        """The orchestrator has one thread."""
        arrived = asyncio.get_running_loop().time()
        async with self._orchestrator:
            await asyncio.sleep(self._handling)
        return dataclasses.replace(timed, arrived_seconds=arrived)

    async def run(self) -> None:
        while True:
            self._news.clear()
            if any(call.steps for call in self._sessions):
                await self._wait_for_others()
                await self._step([call for call in self._sessions if call.steps])
            else:
                await self._news.wait()

    async def _wait_for_others(self) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        while (left := self._max_wait(began, now())) > 0:  # noqa: ASYNC110  nobody calls it back
            await asyncio.sleep(left)

    def _max_wait(self, began: float, now: float) -> float:
        ready = sum(call.steps > 0 for call in self._sessions)
        some_go_on = any(call.steps > 1 for call in self._sessions)
        longest = self._last_seconds * (DECODE_SHARE if some_go_on else 1.0)
        left = self._gather.max_wait(ready, self._last_seconds, now)
        return min(left, began + longest - now)

    async def _step(self, calls: list[_Call]) -> None:
        world, sessions = self._world, len(self._sessions)
        taken = [call.take() for call in calls]
        rows = sum(len(draft_tokens) + 1 for draft_tokens in taken)
        self._last_seconds = world.step_seconds + world.token_seconds * (rows - 1)
        await asyncio.sleep(self._last_seconds)
        step = Verdict(
            position=0,
            token_ids=(),
            step_seconds=self._last_seconds,
            load=Load(sessions=sessions, batched_tokens=rows),
            cost_model=CostModel(world.step_seconds - world.token_seconds, world.token_seconds),
        )
        for call, draft_tokens in zip(calls, taken, strict=True):
            call.commit(draft_tokens, step)
            if not call.steps:
                self._gather.answered(call, asyncio.get_running_loop().time())


class _Draft:
    """An engine that drafts one token for each session that wants one, all in a step."""

    def __init__(self, load_class: Crowd) -> None:
        self._crowd = load_class
        self._sessions: list[_Drafter] = []
        self.news = asyncio.Event()

    @contextlib.contextmanager
    def session(self, drafter: "_Drafter") -> Iterator[None]:
        self._sessions.append(drafter)
        hearing = asyncio.create_task(drafter.hear())
        try:
            yield
        finally:
            hearing.cancel()
            self._sessions.remove(drafter)

    async def run(self) -> None:
        while True:
            self.news.clear()
            step = [(one, len(one.path), one.path.digest) for one in self._sessions if one.wants]
            if not step:
                await self.news.wait()
                continue
            rows = self._crowd.draft_token_seconds * (len(step) - 1)
            await asyncio.sleep(self._crowd.world.draft_seconds + rows)
            for drafter, position, digest in step:
                drafter.draft_token(position, digest)


class _Drafter:
    """One session on the draft."""

    def __init__(
        self, draft: _Draft, world: World, session: DraftSession, outcome: Outcome, offset: int
    ) -> None:
        self._draft = draft
        self._world = world
        self._session = session
        self._outcome = outcome
        self._offset = offset
        self.path = DraftPath((0,))
        self._lookahead = 0

    @property
    def wants(self) -> bool:
        return len(self.path) - self.path.committed < self._lookahead

    def draft_token(self, position: int, digest: int) -> None:
        """The token that a step made for `position`, if the path is still the one it began on."""
        if len(self.path) != position or self.path.digest != digest:
            return
        draft_token = self._world.draft_token(position + self._offset)
        if draft_token is None:
            return
        token = truth(position) if draft_token.right else WRONG
        self.path.extend((token,))
        self._outcome.drafted += 1
        proposal = Proposal(
            position, digest, (token,), (draft_token.confidence,), draft_token.drafter
        )
        self._later(self._session.receive, proposal)

    async def hear(self) -> None:
        while True:
            self._later(self._apply, await self._session.advances.get())

    def _apply(self, advance: Advance) -> None:
        self.path.commit(advance.token_ids)
        self._lookahead = advance.lookahead
        self._draft.news.set()

    def _later(self, function: Callable[..., None], argument: object) -> None:
        asyncio.get_running_loop().call_later(
            self._world.round_trip_seconds / 2, function, argument
        )
