"""paceline simulate: what speculation would bring, before there is anything to measure."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from orchestrator.speculation.pacing.cost_objective import CostObjective
from paceline.errors import InvalidArgument
from paceline_tools.cli.flags import Finite
from paceline_tools.cli.plan import (
    MOST_MS,
    MOST_PRICE,
    MOST_STREAMS,
    ConsideredDraft,
    Planning,
    PlanOptions,
    drafts_of,
    evaluated_drafts,
    show,
    traffic_of,
    world_of,
)
from paceline_tools.grid import Grid
from paceline_tools.progress import progress
from paceline_tools.simulation.plan import LatencyLimits, Prices
from paceline_tools.simulation.run import FIXED_LENGTHS, Outcome, simulate_policy
from paceline_tools.simulation.world import PromptCosts, World
from paceline_tools.terminal import console

SEEDS = (1, 2, 3)
HOUR = 3600.0
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Forecast:
    """At one acceptance rate. speedup: over the target alone, as the pacer decides.

    fixed: of the best fixed draft length, fixed_length. cost and cost_alone: per million output
    tokens, with and without drafts. recommendation: what to do.
    """

    acceptance: float
    speedup: float
    fixed: float
    fixed_length: int
    tokens_per_second: float
    drafted_per_token: float
    drafts_per_target: float
    cost: float
    cost_alone: float
    recommendation: str


class Simulate(PlanOptions):
    """Predict speed and cost from stated times: by the real pacer, in virtual time.

    Times are those of a step at the load you expect; streams share steps. With traffic, which is
    --arrivals or --trace, it plans: how many servers of each role keep the limits, with which
    draft, and what a million output tokens costs.
    """

    step_ms: Finite = Field(25.0, gt=0, le=MOST_MS, description="A target step.")
    token_ms: Finite = Field(
        0.05, ge=0, le=MOST_MS, description="Each further row of a target step."
    )
    draft_ms: Finite = Field(
        2.5, gt=0, le=MOST_MS, description="A draft step: one token of each stream."
    )
    round_trip_ms: Finite = Field(0.5, ge=0, le=MOST_MS, description="Round trip to the draft.")
    shared: bool = Field(False, description="Draft and target share their cores.")
    acceptance: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        [0.5, 0.6, 0.7, 0.8, 0.9],
        min_length=1,
        description="Shares of draft tokens that are right.",
    )
    streams: int = Field(
        16, ge=1, le=MOST_STREAMS, description="Streams that a target serves at once."
    )
    draft_streams: int = Field(
        32, ge=1, le=MOST_STREAMS, description="Streams that a draft serves at once."
    )
    target_price: Finite = Field(
        4.0, ge=0, le=MOST_PRICE, description="Of a target server, an hour."
    )
    draft_price: Finite = Field(0.5, ge=0, le=MOST_PRICE, description="Of a draft server, an hour.")
    tokens: int = Field(1500, ge=100, le=1_000_000, description="Tokens of each run.")
    json_: bool = Field(False, alias="json", description="Print one object instead of a table.")

    def cli_cmd(self) -> None:
        """Run the command."""
        objective = self._cost_objective()
        if self.arrivals is not None or self.trace is not None:
            show(self._planning(objective), as_json=self.json_)
            return
        if objective is not None:
            raise InvalidArgument(
                "--objective is cost; it needs traffic: --arrivals or --trace must be given"
            )
        with progress(console(stderr=True)) as shown:
            runs = (len(SEEDS) + len(FIXED_LENGTHS)) * len(self.acceptance)
            task = shown.add_task("simulating", total=runs)
            found = [self._predict(one, lambda: shown.advance(task)) for one in self.acceptance]
        if self.json_:
            console().print_json(json.dumps([asdict(one) for one in found]))
        else:
            console().print(forecasts(found))

    def _predict(self, acceptance: float, advance: Callable[[], None]) -> Forecast:
        """`advance` is told of each run."""
        paced = [self._run(acceptance, seed, None, advance) for seed in SEEDS]
        rate = sum(run.tokens_per_second for run in paced) / len(SEEDS)
        alone = 1e3 / self.step_ms
        fixed = {
            length: self._run(acceptance, SEEDS[0], length, advance).tokens_per_second / alone
            for length in FIXED_LENGTHS
        }
        best = max(fixed, key=lambda length: fixed[length])
        drafts_per_target = self.streams / self.draft_streams
        price = (self.target_price + self.draft_price * drafts_per_target) / self.streams
        cost = price / (rate * HOUR) * MILLION
        cost_alone = self.target_price / self.streams / (alone * HOUR) * MILLION
        return Forecast(
            acceptance=acceptance,
            speedup=rate / alone,
            fixed=fixed[best],
            fixed_length=best,
            tokens_per_second=rate,
            drafted_per_token=sum(run.drafted / run.tokens for run in paced) / len(SEEDS),
            drafts_per_target=drafts_per_target,
            cost=cost,
            cost_alone=cost_alone,
            recommendation=_recommendation(rate / alone, cost / cost_alone),
        )

    def _planning(self, objective: CostObjective | None) -> Planning:
        limits = (self.ttft_p50_ms, self.ttft_p99_ms, self.token_p50_ms, self.token_p99_ms)
        return Planning(
            traffic_of(self),
            self._drafts(),
            LatencyLimits(*(None if one is None else one / 1e3 for one in limits)),
            Prices(self.target_price, self.draft_price, self.orchestrator_price),
            self.streams,
            self.requests,
            objective,
        )

    def _cost_objective(self) -> CostObjective | None:
        most = self.max_token_latency_ms
        if self.objective == "time":
            if most is not None:
                raise InvalidArgument(
                    f"--max-token-latency-ms is {most:g}; it must be given with --objective cost"
                )
            return None
        if not self.target_price:
            raise InvalidArgument("--target-price is 0; it must be more with --objective cost")
        return CostObjective(
            self.target_price, self.draft_price, math.inf if most is None else most / 1e3
        )

    def _drafts(self) -> list[ConsideredDraft]:
        if self.evaluation is not None:
            return [
                ConsideredDraft(name, world_of(costs, acceptance, shared=self.shared))
                for name, acceptance, costs in evaluated_drafts(self.evaluation)
            ]
        if not self.candidate and "acceptance" not in self.model_fields_set:
            raise InvalidArgument(
                "a plan needs a draft: --candidate, --acceptance or --evaluation must be given"
            )
        given = [f"{one:g}={one:g}:{self.draft_ms}" for one in self.acceptance]
        return drafts_of(self.candidate or given, self._world)

    def _world(self, acceptance: float, draft_ms: float, round_trip_ms: float) -> World:
        """round_trip_ms: negative: as the flag has it."""
        far = self.round_trip_ms if round_trip_ms < 0 else round_trip_ms
        return World(
            self.step_ms / 1e3,
            draft_ms / 1e3,
            far / 1e3,
            lambda _: acceptance,
            token_seconds=self.token_ms / 1e3,
            shares_cores=self.shared,
            prompt=PromptCosts(1, self.prompt_ms / 1e3, self.prompt_ms / 1e4),
        )

    def _run(
        self, acceptance: float, seed: int, length: int | None, advance: Callable[[], None]
    ) -> Outcome:
        world = World(
            self.step_ms / 1e3,
            self.draft_ms / 1e3,
            self.round_trip_ms / 1e3,
            lambda _: acceptance,
            token_seconds=self.token_ms / 1e3,
            shares_cores=self.shared,
            seed=seed,
        )
        outcome = simulate_policy(world, length, self.tokens)
        advance()
        return outcome


def _recommendation(speedup: float, cost: float) -> str:
    if speedup < 1.05:
        return "the target alone"
    return "faster and cheaper" if cost <= 1.0 else f"faster at {cost:.2f} times the cost"


def forecasts(found: list[Forecast]) -> Grid:
    """As a table."""
    cells: dict[str, Callable[[Forecast], str]] = {
        "right": lambda one: f"{one.acceptance:.2f}",
        "speed-up": lambda one: f"{one.speedup:.2f}",
        "best fixed": lambda one: f"{one.fixed:.2f} at {one.fixed_length}",
        "tokens/s": lambda one: f"{one.tokens_per_second:.1f}",
        "drafted": lambda one: f"{one.drafted_per_token:.1f}",
        "cost": lambda one: f"{one.cost:.2f}",
        "recommendation": lambda one: one.recommendation,
    }
    rows = [tuple(show(one) for show in cells.values()) for one in found]
    note = (
        "right: draft tokens that are the target's. best fixed: speed-up at that draft length. "
        "drafted: draft tokens for each token. cost: of a million output tokens. "
        f"{found[0].drafts_per_target:.2f} drafts per target; the target alone costs "
        f"{found[0].cost_alone:.2f} per million tokens."
    )
    return Grid("Speculation, predicted", tuple(cells), rows, note)
