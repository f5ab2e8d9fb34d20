"""Traffic on one target and one draft, in virtual time: by the real rounds and the real pacer."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.round_settings import DRAFT_WAIT_SECONDS, MAX_BRANCH_TOKENS, MAX_DRAFT_LENGTH
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.cost_objective import CostObjective
from orchestrator.speculation.pacing.pacer import FixedPacer, Pacer
from paceline_tools.simulation.clock import in_virtual_time
from paceline_tools.simulation.draft import SimulatedDraft
from paceline_tools.simulation.run import Outcome, SimulatedServers, run_stream
from paceline_tools.simulation.target import SimulatedTarget
from paceline_tools.simulation.traffic import Asked, arrivals
from paceline_tools.simulation.world import PromptCosts, World


@dataclass(frozen=True, slots=True)
class ServedTraffic:
    """What traffic came to.

    first, token: seconds to the first token, and of each further one, by request, ascending.
    draft_share: of the time in which the draft was at work.
    """

    first: tuple[float, ...]
    token: tuple[float, ...]
    verdicts_per_second: float
    draft_share: float


def serve(
    world: World,
    asked: Sequence[Asked],
    rate: float,
    streams: int,
    *,
    drafts: bool,
    objective: CostObjective | None = None,
) -> ServedTraffic:
    """Requests at so many a second; at most so many streams at once, the others wait in order.

    world.prompt: what a prompt takes, of so many tokens; others take their share of it.
    objective: of the pacer; None: time.
    """

    def pacer(measurements: DraftMeasurements) -> Pacer:
        if not drafts:
            return FixedPacer(0, 0.0)
        return AdaptivePacer(
            measurements, MAX_DRAFT_LENGTH, DRAFT_WAIT_SECONDS, objective, MAX_BRANCH_TOKENS
        )

    return in_virtual_time(_serve(world, asked, rate, streams, pacer))


async def _serve(
    world: World,
    asked: Sequence[Asked],
    rate: float,
    streams: int,
    make_pacer: Callable[[DraftMeasurements], Pacer],
) -> ServedTraffic:
    servers = SimulatedServers(SimulatedTarget(world), SimulatedDraft(world))
    measurements = DraftMeasurements()
    room = asyncio.Semaphore(streams)
    loop = asyncio.get_running_loop()

    async def one(index: int, request: Asked, at: float) -> tuple[float, Outcome]:
        await asyncio.sleep(at)
        came = loop.time()
        async with room:
            own = replace(world.of_stream(index), prompt=_prompt(world.prompt, request))
            pacer = make_pacer(measurements)
            return came, await run_stream(own, servers, pacer, measurements, request.output_tokens)

    times = arrivals(asked, rate)
    found = await asyncio.gather(
        *(
            one(index, request, at)
            for index, (request, at) in enumerate(zip(asked, times, strict=True))
        )
    )
    seconds = loop.time()
    return ServedTraffic(
        tuple(sorted(outcome.arrivals[0] - came for came, outcome in found)),
        tuple(sorted(_token_seconds(outcome) for _, outcome in found)),
        sum(len(outcome.arrivals) for _, outcome in found) / seconds,
        servers.draft.engine.busy_seconds / seconds,
    )


def _prompt(costs: PromptCosts, request: Asked) -> PromptCosts:
    share = request.prompt_tokens / costs.tokens
    return PromptCosts(
        request.prompt_tokens, costs.target_seconds * share, costs.draft_seconds * share
    )


def _token_seconds(outcome: Outcome) -> float:
    """Of each token behind those of the first verdict; 0 where there is none."""
    more = outcome.tokens - 1
    return (outcome.arrivals[-1] - outcome.arrivals[0]) / more if more else 0.0


def percentile(ascending: Sequence[float], share: float) -> float:
    """The least value that so large a share is not above."""
    return ascending[max(0, math.ceil(len(ascending) * share) - 1)]
