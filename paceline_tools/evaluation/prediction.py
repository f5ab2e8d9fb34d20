"""Predictions: a recording replayed through the real round and pacer, in virtual time."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from draft_server.drafters.registry import DRAFTERS
from orchestrator.round_settings import DRAFT_WAIT_SECONDS, MAX_BRANCH_TOKENS, MAX_DRAFT_LENGTH
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.pacer import FixedPacer, RestingPacer
from paceline.protocol.proposal import Drafter, DraftToken
from paceline_tools.bench.report import Ratio
from paceline_tools.evaluation.recording import RecordedOutput, Recording, TargetCosts
from paceline_tools.simulation.run import (
    FIXED_WAIT_SECONDS,
    Outcome,
    simulate,
)
from paceline_tools.simulation.world import PromptCosts, World, truth

LENGTHS = tuple(range(MAX_DRAFT_LENGTH + 1))
PASSES = 2
"""How often the pacer goes over the outputs, as in what is measured."""

MakePacer = Callable[[DraftMeasurements], RestingPacer]


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a draft would run. shared: on the target's own cores.

    round_trip_seconds: to the draft; None: as it was when recorded.
    """

    shared: bool
    round_trip_seconds: float | None = None


@dataclass(frozen=True)
class RecordedWorld(World):
    """A world in which the draft drafts what was recorded; behind the end it has nothing."""

    draft_tokens: tuple[DraftToken | None, ...] = ()
    costs: TargetCosts | None = None

    def draft_token(self, position: int) -> DraftToken | None:
        """See World. Second-best tokens are not recorded."""
        at = position - self.prompt.tokens
        token = self.draft_tokens[at] if at < len(self.draft_tokens) else None
        if token is None or token.drafter is not Drafter.MODEL:
            return token
        right = token.id == truth(position)
        return replace(token, second=self.second(position, right=right))

    def verify_seconds(self, draft_tokens: int) -> float:
        """As measured, and between what was measured on a line."""
        if self.costs is None:
            return super().verify_seconds(draft_tokens)
        return interpolated(self.costs.verify, draft_tokens)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Speed-ups over the target alone, prompts included, by kind; "all" first.

    intervals: as the pacer decides, over outputs. fixed: of each draft length.
    """

    intervals: dict[str, Ratio]
    fixed: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def paced(self) -> dict[str, float]:
        """As the pacer decides."""
        return {kind: one.ratio for kind, one in self.intervals.items()}

    def best_length(self, kind: str = "all") -> int:
        """The fixed draft length that is best."""
        return max(self.fixed, key=lambda length: self.fixed[length][kind])

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {"paced": self.paced, **asdict(self)}


def predict(
    recording: Recording, deployment: Deployment, advance: Callable[[], None] = lambda: None
) -> Prediction:
    """What speculation brings there; `advance` is told of each of replays(recording) done."""
    alone = replay(recording, deployment, fixed(0))
    fixed_lengths = {}
    for length in LENGTHS:
        fixed_lengths[length] = speedups(alone, replay(recording, deployment, fixed(length)))
        advance()
    paced = replay(recording, deployment, adaptive, PASSES)
    advance()
    return Prediction(intervals(alone, paced), fixed_lengths)


REPLAYS = len(LENGTHS) + 1
"""How often predict advances."""


def fixed(length: int) -> MakePacer:
    """A fixed draft length."""
    return lambda _: FixedPacer(length, FIXED_WAIT_SECONDS)


def adaptive(measurements: DraftMeasurements) -> RestingPacer:
    """The pacer, as an orchestrator has it unless told otherwise."""
    return AdaptivePacer(
        measurements,
        MAX_DRAFT_LENGTH,
        DRAFT_WAIT_SECONDS,
        max_branch_tokens=MAX_BRANCH_TOKENS,
    )


@dataclass(frozen=True, slots=True)
class Replayed:
    """Runs along one output, and its kind."""

    kind: str
    runs: tuple[Outcome, ...]

    @property
    def seconds(self) -> float:
        """Of the whole output, mean of its runs."""
        return statistics.fmean(run.seconds for run in self.runs)


def replay(
    recording: Recording, deployment: Deployment, make: MakePacer, passes: int = 1
) -> list[Replayed]:
    """Each output in turn, so many times, by streams that share what they know of the draft."""
    measurements = DraftMeasurements()
    return [
        Replayed(
            output.kind,
            tuple(
                simulate(
                    world_of(recording, output, deployment),
                    make(measurements),
                    measurements,
                    length,
                )
                for _ in range(passes)
            ),
        )
        for output in recording.outputs
        for length in [len(output.draft_tokens)]
    ]


def world_of(recording: Recording, output: RecordedOutput, deployment: Deployment) -> RecordedWorld:
    """The world of one output."""
    target, draft = recording.target_costs, recording.draft_costs
    round_trip = deployment.round_trip_seconds
    return RecordedWorld(
        step_seconds=target.step,
        draft_seconds=draft.step,
        round_trip_seconds=draft.round_trip if round_trip is None else round_trip,
        acceptance=lambda _: recording.acceptance(),
        token_seconds=target.verify_token,
        target_round_trip_seconds=target.round_trip,
        shares_cores=deployment.shared,
        free=not DRAFTERS[recording.drafter].needs_model,
        prompt=PromptCosts(
            output.prompt_tokens,
            target.prompt_token * output.prompt_tokens,
            draft.prompt_token * output.prompt_tokens,
        ),
        draft_tokens=output.unpacked(),
        costs=target,
    )


def speedups(alone: Sequence[Replayed], runs: Sequence[Replayed]) -> dict[str, float]:
    """Geometric means over outputs, by kind; "all" first."""
    ratios = _by_kind(alone, runs)
    return {kind: statistics.geometric_mean(values) for kind, values in ratios.items()}


def intervals(alone: Sequence[Replayed], runs: Sequence[Replayed]) -> dict[str, Ratio]:
    """The same with their intervals."""
    return {kind: Ratio.over(values) for kind, values in _by_kind(alone, runs).items()}


def _by_kind(alone: Sequence[Replayed], runs: Sequence[Replayed]) -> dict[str, list[float]]:
    ratios: dict[str, list[float]] = defaultdict(list)
    for before, after in zip(alone, runs, strict=True):
        for kind in ("all", after.kind):
            ratios[kind].append(before.seconds / after.seconds)
    return ratios


def interpolated(costs: dict[int, float], draft_tokens: int) -> float:
    """Seconds of a step that verifies so many, on lines between those that were measured."""
    below = max((known for known in costs if known <= draft_tokens), default=min(costs))
    above = min((known for known in costs if known >= draft_tokens), default=max(costs))
    if above <= below:
        return costs[below]
    share = (draft_tokens - below) / (above - below)
    return costs[below] + share * (costs[above] - costs[below])
