"""What was found of each candidate. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from paceline_tools.bench.report import TARGET_ONLY, Ratio, Report
from paceline_tools.evaluation.alone import Alone
from paceline_tools.evaluation.candidates import DraftCandidate
from paceline_tools.evaluation.prediction import Deployment, Prediction
from paceline_tools.evaluation.recommendation import (
    MEASURED,
    PREDICTED,
    Recommendation,
    Use,
    judge,
    not_tried,
    unfit,
)
from paceline_tools.evaluation.recording import Recording
from paceline_tools.evaluation.setting import Setting, target_alone, with_draft

HERE = "here"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was recorded and measured.

    problem: why it cannot draft for the target, or why it was not served alone. failure: what kept
    it from being tried, which says nothing of the candidate.
    """

    candidate: DraftCandidate
    problem: str = ""
    failure: str = ""
    recording: Recording | None = None
    report: Report | None = None
    alone: Alone | None = None

    @property
    def measured(self) -> dict[str, Ratio]:
        """Speed-ups by kind, where they were measured."""
        if self.report is None:
            return {}
        return self.report.ratios()[f"{self.report.speculative}_vs_{TARGET_ONLY}"]

    @property
    def differing_tokens(self) -> int:
        """Tokens that speculation changed: none, or there is a bug."""
        return self.report.speed(self.report.speculative).differing_tokens if self.report else 0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A candidate judged. predictions: by name of the deployment, the one that is judged last."""

    gathered: Gathered
    recommendation: Recommendation
    predictions: dict[str, tuple[Deployment, Prediction]] = field(default_factory=dict)

    @property
    def candidate(self) -> DraftCandidate:
        """Which."""
        return self.gathered.candidate

    @property
    def setting(self) -> Setting | None:
        """How to start servers so; None where nothing was recorded."""
        if (recording := self.gathered.recording) is None:
            return None
        if not self.recommendation.use or not self.predictions:
            return target_alone(recording.target, recording.dtype)
        _, prediction = list(self.predictions.values())[-1]
        length = max(prediction.best_length(), 1)
        return with_draft(recording.target, self.candidate, recording.dtype, length)

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        gathered, recording = self.gathered, self.gathered.recording
        return {
            "candidate": asdict(self.candidate),
            "recommendation": asdict(self.recommendation)
            | {"choice": self.recommendation.choice.value},
            "setting": str(self.setting or ""),
            "variables": self.setting.variables if self.setting else (),
            "problem": gathered.problem,
            "failure": gathered.failure,
            "acceptance": _acceptance(recording) if recording else None,
            "costs": _costs(recording) if recording else None,
            "predictions": {
                name: {"deployment": asdict(deployment), **prediction.as_json()}
                for name, (deployment, prediction) in self.predictions.items()
            },
            "measured": gathered.report.as_json() if gathered.report else None,
            "alone": asdict(gathered.alone) if gathered.alone else None,
        }


def winner(found: Sequence[Evaluated]) -> Evaluated | None:
    """The one to serve with: the fastest worth using; where none is, any, for its target.

    None where nothing was recorded, or there is no verdict yet.
    """
    known = [one for one in found if one.setting is not None]
    verdicts = {one.recommendation.choice for one in found}
    if used := [one for one in known if one.recommendation.use]:
        return max(used, key=lambda one: one.recommendation.speedup)
    return known[0] if known and verdicts == {Use.DO_NOT_USE} else None


def evaluated(
    gathered: Gathered, predictions: dict[str, tuple[Deployment, Prediction]]
) -> Evaluated:
    """Judge by what was measured, where the draft is to run where it was; else as predicted."""
    if gathered.failure:
        return Evaluated(gathered, not_tried(gathered.failure))
    if gathered.recording is None:
        return Evaluated(gathered, unfit(gathered.problem))
    name = list(predictions)[-1]
    prediction = predictions[name][1]
    effect, how = prediction.intervals, PREDICTED if name == HERE else f"{PREDICTED} for {name}"
    if gathered.measured and name == HERE:
        effect, how = gathered.measured, MEASURED
    recommendation = judge(effect, how, gathered.recording, prediction)
    return Evaluated(gathered, recommendation, predictions)


def _acceptance(recording: Recording) -> dict[str, Any]:
    return {
        kind: {
            "rate": recording.acceptance(kind),
            "coverage": recording.coverage(kind),
            "by_position": recording.by_position(kind),
        }
        for kind in ("all", *recording.kinds)
    }


def _costs(recording: Recording) -> dict[str, Any]:
    draft = recording.draft_costs
    return {
        "target": recording.target_costs.model_dump(),
        "draft": {**draft.model_dump(), "round_trip": draft.round_trip},
    }
