"""paceline simulate with traffic: how many servers, which draft, and what it costs."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from rich.console import Group

from orchestrator.speculation.pacing.cost_objective import CostObjective
from paceline.errors import InvalidArgument, NotFound, shown
from paceline_tools.cli.flags import Finite
from paceline_tools.grid import Grid
from paceline_tools.progress import progress
from paceline_tools.simulation.plan import (
    RUNS,
    Capacity,
    FleetPlan,
    LatencyLimits,
    Prices,
    capacity,
    nearly_alone,
    planned,
)
from paceline_tools.simulation.traffic import Traffic, poisson, traced
from paceline_tools.simulation.world import PromptCosts, World
from paceline_tools.terminal import console, plain

SEEDS = (1, 2, 3)
ALONE = "none"
MOST_MS, MOST_PRICE, MOST_ARRIVALS, MOST_STREAMS = 600_000.0, 1e6, 100_000.0, 65_536
"""What times, prices and traffic may be at most."""
FLAGS = {"first_p50": "--ttft-p50-ms", "first_p99": "--ttft-p99-ms",
         "token_p50": "--token-p50-ms", "token_p99": "--token-p99-ms"}  # fmt: skip
DRAFT = "NAME=ACCEPTANCE:STEP_MS or NAME=ACCEPTANCE:STEP_MS:ROUND_TRIP_MS"


class PlanOptions(BaseModel):
    """Flags of the traffic to plan for."""

    arrivals: Finite | None = Field(
        None,
        gt=0,
        le=MOST_ARRIVALS,
        description="Plan for so many requests a second. Unless given: no plan.",
    )
    trace: Path | None = Field(
        None,
        description="Plan for the busiest minute of such a file: CSV or JSONL with time, "
        "prompt_tokens and output_tokens, or as the Azure LLM inference traces have it. Unless "
        "given: no plan.",
    )
    prompt_tokens: str = Field("300", description="Of arrivals: N, LOW-HIGH or exp:MEAN.")
    output_tokens: str = Field("200", description="Of arrivals: N, LOW-HIGH or exp:MEAN.")
    candidate: list[str] = Field(
        [],
        description=f"A draft to plan with, as {DRAFT}; again for others. Unless given: one for "
        "each acceptance that is given.",
    )
    evaluation: Path | None = Field(
        None,
        description="Plan with the drafts and times of what evaluate --json wrote. Unless given: "
        "with those of flags.",
    )
    prompt_ms: Finite = Field(
        0.1, ge=0, le=MOST_MS, description="What a prompt token takes the target."
    )
    ttft_p50_ms: Finite | None = Field(
        None,
        gt=0,
        le=MOST_MS,
        description="Most to the first token, median. Unless given: any.",
    )
    ttft_p99_ms: Finite | None = Field(
        1000.0,
        gt=0,
        le=MOST_MS,
        description="Most to the first token, of 99 in a hundred requests.",
    )
    token_p50_ms: Finite | None = Field(
        None,
        gt=0,
        le=MOST_MS,
        description="Most for each further token, mean of a request, median of them. "
        "Unless given: any.",
    )
    token_p99_ms: Finite | None = Field(
        None,
        gt=0,
        le=MOST_MS,
        description="The same of 99 in a hundred requests. Unless given: any.",
    )
    objective: Literal["time", "cost"] = Field(
        "time", description="What the pacer minimises; cost by the prices of target and draft."
    )
    max_token_latency_ms: Finite | None = Field(
        None,
        gt=0,
        le=MOST_MS,
        description="With --objective cost: most that the pacer expects a token to take. Unless "
        "given: any.",
    )
    orchestrator_price: Finite = Field(
        0.1, ge=0, le=MOST_PRICE, description="Of an orchestrator, an hour."
    )
    requests: int = Field(
        60, ge=20, le=100_000, description="Requests of each run: more are surer, and take longer."
    )


@dataclass(frozen=True, slots=True)
class ConsideredDraft:
    """A draft to plan with."""

    name: str
    world: World


def drafts_of(
    texts: list[str], base: Callable[[float, float, float], World]
) -> list[ConsideredDraft]:
    """Drafts as flags give them. base: a world by acceptance, step and round trip."""
    found = []
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            acceptance, step, *more = values = [float(one) for one in numbers.split(":")]
        except ValueError:
            raise InvalidArgument.of("--candidate", text, DRAFT) from None
        good = all(map(math.isfinite, values)) and acceptance <= 1 and step > 0 <= min(values)
        good = good and max(values) <= MOST_MS
        if not name or len(more) > 1 or not good:
            raise InvalidArgument.of("--candidate", text, DRAFT)
        found.append(ConsideredDraft(name, base(acceptance, step, more[0] if more else -1.0)))
    return found


def evaluated_drafts(path: Path) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
    """Name, acceptance and costs of each candidate that evaluate recorded."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        candidates = [one for one in content["candidates"] if one["costs"]]
        found = [
            (str(one["candidate"]["name"]), float(one["acceptance"]["all"]["rate"]), one["costs"])
            for one in candidates
        ]
        yield from found
    except FileNotFoundError:
        raise NotFound(f"--evaluation {path} is not there") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument(
            f"--evaluation {path} is not what paceline evaluate --json writes"
        ) from None
    if not found:
        raise InvalidArgument(f"--evaluation {path} has no draft that was recorded")


@dataclass(frozen=True, slots=True)
class Planning:
    """What is planned, with what, for what."""

    traffic: Traffic
    drafts: list[ConsideredDraft]
    limits: LatencyLimits
    prices: Prices
    streams: int
    requests: int
    objective: CostObjective | None

    @property
    def rates(self) -> str:
        """The acceptance rate of each draft."""
        return ", ".join(f"{shown(one.name)} {one.world.acceptance(0):g}" for one in self.drafts)

    def plans(self, advance: Callable[[int], None]) -> list[FleetPlan]:
        """With none, and with each draft; those that cannot keep the limits are left out."""
        every = [(ALONE, self.drafts[0].world), *((one.name, one.world) for one in self.drafts)]
        found = []
        for name, world in every:
            capacities = [self._capacity(name, world, seed, advance) for seed in SEEDS]
            known = [one for one in capacities if one is not None]
            if len(known) == len(SEEDS):
                drafts = name != ALONE
                found.append(planned(name, known, self.traffic, self.prices, drafts=drafts))
        return found

    def nearest(self) -> tuple[str, dict[str, tuple[float, float]]]:
        """Of what misses a limit by least, with all to itself: its draft, and what it misses."""
        every = [(ALONE, self.drafts[0].world), *((one.name, one.world) for one in self.drafts)]
        found = [(name, self._misses(name, world)) for name, world in every]
        return min(found, key=lambda one: max(got / most for got, most in one[1].values()))

    def _misses(self, name: str, world: World) -> dict[str, tuple[float, float]]:
        """Of all seeds, the worst of each limit that one misses."""
        worst: dict[str, tuple[float, float]] = {}
        for seed in SEEDS:
            asked = self.traffic.requests(seed, self.requests)
            served = nearly_alone(
                world, asked, self.streams, drafts=name != ALONE, objective=self.objective
            )
            for limit, found in self.limits.missed(served).items():
                worst[limit] = max(worst.get(limit, found), found)
        return worst

    def _capacity(
        self, name: str, world: World, seed: int, advance: Callable[[int], None]
    ) -> Capacity | None:
        asked = self.traffic.requests(seed, self.requests)
        drafts = name != ALONE
        return capacity(
            world,
            asked,
            self.streams,
            self.limits,
            drafts=drafts,
            objective=self.objective,
            advance=advance,
        )


def show(planning: Planning, *, as_json: bool) -> None:
    """Plan, and print it. Exits with 1 where no number of servers keeps the limits."""
    with progress(console(stderr=True)) as bar:
        total = RUNS * len(SEEDS) * (1 + len(planning.drafts))
        task = bar.add_task("planning", total=total)
        found = planning.plans(lambda runs: bar.advance(task, runs))
    if not found:
        _tell_nearest(planning, as_json=as_json)
        raise SystemExit(1)
    if as_json:
        console().print_json(json.dumps(figures(planning, found)))
    else:
        console().print(screen(planning, found))


def _tell_nearest(planning: Planning, *, as_json: bool) -> None:
    draft, missed = planning.nearest()
    if as_json:
        reached = {
            FLAGS[name][2:].replace("-", "_"): got * 1e3 for name, (got, _) in missed.items()
        }
        nearest = {"nearest": {"draft": draft, "missed": reached}}
        console().print_json(json.dumps(figures(planning, []) | nearest))
        return
    told = [
        f"{FLAGS[name]} is {most * 1e3:g} and {got * 1e3:.1f} is the nearest"
        for name, (got, most) in missed.items()
    ]
    who = "without drafts" if draft == ALONE else f"with {shown(draft)}"
    words = f"no number of servers keeps these limits: {'; '.join(told)}, {who}, nearly alone"
    console().print(plain(words, "bold"))


def figures(planning: Planning, found: list[FleetPlan]) -> dict[str, Any]:
    """All of it, for scripts; latencies in milliseconds."""
    best = cheapest(found)
    return {
        "requests_per_second": planning.traffic.rate,
        "mean_output_tokens": planning.traffic.mean_output_tokens,
        "limits": asdict(planning.limits),
        "best": best.draft if best else None,
        "plans": [
            {name: value for name, value in asdict(one).items() if name != "capacities"}
            | {"requests_per_second_per_target": min(of.rate for of in one.capacities)}
            | {name: value * 1e3 for name, value in _latencies(one).items()}
            for one in found
        ],
    }


def cheapest(found: list[FleetPlan]) -> FleetPlan | None:
    """The plan that costs least."""
    return min(found, key=lambda one: one.cost, default=None)


def _latencies(one: FleetPlan) -> dict[str, float]:
    return {
        "ttft_p50_ms": one.worst("first", 0.5),
        "ttft_p99_ms": one.worst("first", 0.99),
        "token_p50_ms": one.worst("token", 0.5),
        "token_p99_ms": one.worst("token", 0.99),
    }


def screen(planning: Planning, found: list[FleetPlan]) -> Group:
    """What to have, in words, and a row for each way."""
    rows = [_row(one) for one in found]
    headings = ("draft", "targets", "drafts", "orch.", "TTFT p50/p99", "token p50/p99", "cost")
    note = (
        "TTFT, token: ms to the first token, and for each further one, where a target has all it "
        "can take. cost: of a million output tokens, and its interval over "
        f"{len(SEEDS)} seeds of {planning.requests} requests; more --requests narrow it. Sized for "
        "the worst of these; each draft is at work at most 70 % of the time. Assumed: draft tokens "
        f"are right at the rates given, at every position: {planning.rates}."
    )
    title = (
        f"{planning.traffic.rate:.2f} requests/s of "
        f"{planning.traffic.mean_output_tokens:.0f} output tokens"
    )
    return Group(plain(words(planning, found), "bold"), Grid(title, headings, rows, note))


def words(planning: Planning, found: list[FleetPlan]) -> str:
    """What to have."""
    best = min(found, key=lambda one: one.cost)
    alone = next((one for one in found if one.draft == ALONE), None)
    servers = _many(best.targets, "target")
    if best.draft != ALONE:
        servers += f" and {_many(best.drafts, 'draft')} of {shown(best.draft)}"
    fronts = _many(best.orchestrators, "orchestrator")
    said = f"have {servers}, behind {fronts}: {best.cost:.2f} a million tokens"
    if alone is None:
        return f"{said}; without drafts the limits cannot be kept"
    if alone is best:
        return f"{said}; no draft makes it cheaper"
    return f"{said}; without drafts {_many(alone.targets, 'target')}: {alone.cost:.2f}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _row(one: FleetPlan) -> tuple[str, ...]:
    ms = {name: f"{value * 1e3:.0f}" for name, value in _latencies(one).items()}
    return (
        one.draft,
        str(one.targets),
        str(one.drafts),
        str(one.orchestrators),
        f"{ms['ttft_p50_ms']}/{ms['ttft_p99_ms']}",
        f"{ms['token_p50_ms']}/{ms['token_p99_ms']}",
        f"{one.cost:.2f} ({one.cost_low:.2f}-{one.cost_high:.2f})",
    )


def world_of(costs: Mapping[str, Any], acceptance: float, *, shared: bool) -> World:
    """As evaluate measured it; where the file lacks a number it is a KeyError or TypeError."""
    target, draft = costs["target"], costs["draft"]
    step = float(min(target["verify"].values()))
    return World(
        step,
        max(float(draft["step"]), 1e-6),
        float(draft["round_trip"]),
        lambda _: acceptance,
        token_seconds=float(target["verify_token"]),
        target_round_trip_seconds=float(target["round_trip"]),
        shares_cores=shared,
        prompt=PromptCosts(1, float(target["prompt_token"]), float(draft["prompt_token"])),
    )


def traffic_of(options: PlanOptions) -> Traffic:
    """Of a trace or of arrivals; one of them."""
    if options.trace is not None and options.arrivals is not None:
        raise InvalidArgument("--trace and --arrivals must not be given together")
    if options.trace is not None:
        return traced(options.trace)
    return poisson(options.arrivals or 0.0, options.prompt_tokens, options.output_tokens)
