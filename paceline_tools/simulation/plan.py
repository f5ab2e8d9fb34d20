"""How many servers of each role some traffic needs within latency limits, and what they cost.

A target with a draft of its own is simulated at rising rates; the highest that keeps the limits is
its capacity. Traffic that is split among equal targets asks each for its share, so that targets are
the rate over the capacity. The rates lie on a grid that does not depend on the traffic's rate:
more traffic never needs fewer servers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.speculation.pacing.cost_objective import CostObjective
from paceline_tools.simulation.service import ServedTraffic, percentile, serve
from paceline_tools.simulation.traffic import Asked, Traffic
from paceline_tools.simulation.world import World

GRID = 1.05
"""From a rate to the next one that is tried."""
_LOWEST, _HIGHEST = -64, 63
RUNS = 8
"""Simulations at most, to find a capacity."""
BUSY = 0.7
"""A draft is planned to be at work for at most this share of the time."""
VERDICT_SECONDS = 0.00063
"""Of an orchestrator's core, as docs/sizing.md has it."""
ORCHESTRATOR_BUSY = 0.5
HOUR, MILLION = 3600.0, 1e6


@dataclass(frozen=True, slots=True)
class LatencyLimits:
    """Most seconds to the first token, and for each further one; None: any."""

    first_p50: float | None = None
    first_p99: float | None = None
    token_p50: float | None = None
    token_p99: float | None = None

    def hold(self, served: ServedTraffic) -> bool:
        """Whether traffic was served within them."""
        return not self.missed(served)

    def missed(self, served: ServedTraffic) -> dict[str, tuple[float, float]]:
        """Seconds that were reached and the most there may be, of each limit that was not kept."""
        found = (
            ("first_p50", served.first, 0.5),
            ("first_p99", served.first, 0.99),
            ("token_p50", served.token, 0.5),
            ("token_p99", served.token, 0.99),
        )
        reached = {name: percentile(of, share) for name, of, share in found}
        most = {name: getattr(self, name) for name in reached}
        return {
            name: (value, most[name])
            for name, value in reached.items()
            if most[name] is not None and value > most[name]
        }


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a server, an hour."""

    target: float
    draft: float
    orchestrator: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests per second of one target within the limits, and how they were served then."""

    rate: float
    served: ServedTraffic


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Servers, and what a million output tokens costs. capacities: by seed."""

    draft: str
    targets: int
    drafts: int
    orchestrators: int
    cost: float
    cost_low: float
    cost_high: float
    capacities: tuple[Capacity, ...]

    def worst(self, of: Literal["first", "token"], share: float) -> float:
        """The percentile of seconds to the first, or of each further token; of the worst seed."""
        every = (getattr(one.served, of) for one in self.capacities)
        return max(percentile(seconds, share) for seconds in every)


def nearly_alone(
    world: World,
    asked: Sequence[Asked],
    streams: int,
    *,
    drafts: bool,
    objective: CostObjective | None = None,
) -> ServedTraffic:
    """The traffic at the lowest rate that is tried: no target serves it sooner."""
    rate = _alone(world, asked, streams) * GRID**_LOWEST
    return serve(world, asked, rate, streams, drafts=drafts, objective=objective)


def _alone(world: World, asked: Sequence[Asked], streams: int) -> float:
    mean = sum(one.output_tokens for one in asked) / len(asked)
    return streams / (mean * world.step_seconds)


def capacity(
    world: World,
    asked: Sequence[Asked],
    streams: int,
    limits: LatencyLimits,
    *,
    drafts: bool,
    objective: CostObjective | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Capacity | None:
    """Of one target; None where even a stream that is nearly alone is beyond the limits.

    objective: of the pacer; None: time. advance: is told how many of RUNS are done.
    """
    alone = _alone(world, asked, streams)
    low, high, best, runs = _LOWEST - 1, _HIGHEST, None, 0
    while low < high:
        middle = _LOWEST if runs == 0 else (low + high + 1) // 2
        rate = alone * GRID**middle
        served = serve(world, asked, rate, streams, drafts=drafts, objective=objective)
        runs += 1
        advance(1)
        if limits.hold(served):
            low, best = middle, Capacity(rate, served)
        elif runs == 1:
            break
        else:
            high = middle - 1
    advance(RUNS - runs)
    return best


def planned(
    name: str, found: Sequence[Capacity], traffic: Traffic, prices: Prices, *, drafts: bool
) -> FleetPlan:
    """Enough servers for the worst seed. The interval of the cost is from seed to seed."""
    counts = [_servers(one, traffic, drafts=drafts) for one in found]
    costs = [_cost(one, traffic, prices) for one in counts]
    most = max(range(len(counts)), key=lambda index: costs[index])
    targets, needed, orchestrators = counts[most]
    return FleetPlan(
        name,
        targets,
        needed,
        orchestrators,
        cost=costs[most],
        cost_low=min(costs),
        cost_high=max(costs),
        capacities=tuple(found),
    )


def _servers(one: Capacity, traffic: Traffic, *, drafts: bool) -> tuple[int, int, int]:
    targets = _at_least(traffic.rate / one.rate)
    load = traffic.rate / one.rate  # of so many targets that are at their capacity
    needed = _at_least(load * one.served.draft_share / BUSY) if drafts else 0
    verdicts = load * one.served.verdicts_per_second
    return targets, needed, _at_least(verdicts * VERDICT_SECONDS / ORCHESTRATOR_BUSY)


def _at_least(value: float) -> int:
    return max(1, math.ceil(value - 1e-9))


def _cost(counts: tuple[int, int, int], traffic: Traffic, prices: Prices) -> float:
    targets, drafts, orchestrators = counts
    hour = targets * prices.target + drafts * prices.draft + orchestrators * prices.orchestrator
    return hour / (traffic.rate * traffic.mean_output_tokens * HOUR) * MILLION
