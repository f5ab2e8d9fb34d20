"""The real round, session and pacer in virtual time, between a simulated target and draft.

Hours of rounds in seconds, the same every time: for choosing policies, and for predicting
what a deployment will gain. The engines of both servers are the real engine's core, and the draft
runs ahead as the real one does; forward passes and round trips only take their time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.backends.draft_session import DraftSession
from orchestrator.round_loop import rounds
from orchestrator.round_settings import DRAFT_WAIT_SECONDS, MAX_BRANCH_TOKENS, MAX_DRAFT_LENGTH
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.pacer import FixedPacer, Pacer
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TimedVerdict
from paceline_tools.simulation.clock import in_virtual_time
from paceline_tools.simulation.draft import Drafting, SimulatedDraft, Wire
from paceline_tools.simulation.target import SimulatedTarget, TargetSession
from paceline_tools.simulation.world import VOCABULARY_SIZE, World

FIXED_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""What the pacer is compared with."""
FIXED_WAIT_SECONDS = 5.0
"""How long a round of a fixed length waits for its draft tokens."""


@dataclass
class Outcome:
    """What a stream came to.

    By round: lengths: draft tokens verified; positions: where it began; arrivals: when its verdict
    came, in seconds.
    """

    tokens: int = 0
    seconds: float = 0.0
    lengths: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    drafted: int = 0
    branch_accepted: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Speed."""
        return self.tokens / self.seconds


def simulate(world: World, pacer: Pacer, measurements: DraftMeasurements, tokens: int) -> Outcome:
    """One stream of so many tokens: a crowd of one."""
    return simulate_crowd(world, [pacer], measurements, tokens)[0]


def simulate_policy(world: World, draft_length: int | None, tokens: int) -> Outcome:
    """One stream by the pacer that knows nothing yet (None), or with a fixed draft length."""
    measurements = DraftMeasurements()
    pacer: Pacer = AdaptivePacer(
        measurements,
        MAX_DRAFT_LENGTH,
        DRAFT_WAIT_SECONDS,
        max_branch_tokens=MAX_BRANCH_TOKENS,
    )
    if draft_length is not None:
        pacer = FixedPacer(draft_length, FIXED_WAIT_SECONDS)
    return simulate(world, pacer, measurements, tokens)


def simulate_crowd(
    world: World, pacers: Sequence[Pacer], measurements: DraftMeasurements, tokens: int
) -> list[Outcome]:
    """A stream of so many tokens for each pacer, all at once; they share `measurements`."""
    worlds = [world.of_stream(index) for index in range(len(pacers))]
    return simulate_mixed(worlds, pacers, measurements, tokens)


def simulate_mixed(
    worlds: Sequence[World], pacers: Sequence[Pacer], measurements: DraftMeasurements, tokens: int
) -> list[Outcome]:
    """The same with draft tokens as in a world of each stream; the first one's servers."""
    return in_virtual_time(_run(worlds, pacers, measurements, tokens))


async def _run(
    worlds: Sequence[World], pacers: Sequence[Pacer], measurements: DraftMeasurements, tokens: int
) -> list[Outcome]:
    servers = SimulatedServers(SimulatedTarget(worlds[0]), SimulatedDraft(worlds[0]))
    streams = (
        run_stream(world, servers, pacer, measurements, tokens)
        for world, pacer in zip(worlds, pacers, strict=True)
    )
    return await asyncio.gather(*streams)


@dataclass(frozen=True, slots=True)
class SimulatedServers:
    """What the streams share."""

    target: SimulatedTarget
    draft: SimulatedDraft


async def run_stream(
    world: World,
    servers: SimulatedServers,
    pacer: Pacer,
    measurements: DraftMeasurements,
    tokens: int,
) -> Outcome:
    """One stream of so many tokens behind the world's prompt, from now on, beside others."""
    prompt = (0,) * world.prompt.tokens
    opening = Opening("simulated", prompt, SamplingParams(temperature=0.0), 0, tokens)
    session = DraftSession(
        opening,
        VOCABULARY_SIZE,
        measurements,
        shares_cores=world.shares_cores,
        free=world.free,
        round_trip_seconds=world.round_trip_seconds,
    )
    session.takes_branches = world.branches
    wire = Wire(world.round_trip_seconds, session.receive)
    drafting = Drafting(servers.draft, world, opening, wire.deliver)
    target = TargetSession(servers.target, world, tokens)
    if pacer.eager:
        session.begin()
    outcome = Outcome()
    told = asyncio.create_task(wire.carry(session.advances, drafting.post))
    servers.target.engine.open(target)
    servers.draft.engine.open(drafting)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await rounds(target, session, pacer, _Stream(tokens, outcome))
    outcome.seconds, outcome.drafted = loop.time() - started, drafting.drafted
    servers.target.engine.close(target)
    servers.draft.engine.close(drafting)
    told.cancel()
    return outcome


class _Stream:
    """An output of so many tokens that only counts what came."""

    def __init__(self, remaining: int, outcome: Outcome) -> None:
        self.remaining = remaining
        self._outcome = outcome

    def emit(self, timed: TimedVerdict) -> None:
        """Count its tokens."""
        verdict = timed.verdict
        self.remaining -= len(verdict.token_ids)
        self._outcome.tokens += len(verdict.token_ids)
        self._outcome.branch_accepted += verdict.branch_accepted
        self._outcome.lengths.append(verdict.verified)
        self._outcome.positions.append(verdict.position)
        self._outcome.arrivals.append(timed.arrived_seconds)

    def settle(self) -> None:
        """There is no text."""

    async def room(self) -> None:
        """There is always."""
