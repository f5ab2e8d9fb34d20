"""Candidates judged: by what was recorded, predicted and measured; failures are no verdicts."""

from paceline_tools.bench.report import TARGET_ONLY, Ratio, Report
from paceline_tools.bench.samples import Prompt
from paceline_tools.evaluation.alone import Alone
from paceline_tools.evaluation.candidates import DraftCandidate
from paceline_tools.evaluation.prediction import LENGTHS, Deployment, Prediction
from paceline_tools.evaluation.recommendation import Use
from paceline_tools.evaluation.results import HERE, Evaluated, Gathered, evaluated
from tests.unit.tools.bench.test_report import sample
from tests.unit.tools.evaluation.test_recording import drafted, recording

KINDS = ("code", "edit", "chat", "prose")
PROMPTS = [Prompt(kind, kind) for kind in KINDS]
NAME = "hybrid:qwen2.5-coder-0.5b"


def everything() -> Evaluated:
    """With a row in each table."""
    samples = [sample(TARGET_ONLY, one, 2.0) for one in PROMPTS]
    samples += [sample(f"paceline_{NAME}", one, 1.0) for one in PROMPTS]
    recorded = recording(*(drafted(kind, "MMMm") for kind in KINDS))
    gathered = Gathered(
        DraftCandidate(NAME, "hybrid", "qwen2.5-coder-0.5b"),
        recording=recorded.model_copy(update={"candidate": NAME}),
        report=Report(tuple(samples), f"paceline_{NAME}"),
        alone=Alone(16, 3, 12.0, 1.234, 1.123, Ratio(3.1, 3.0, 3.2, 16)),
    )
    by_kind = dict.fromkeys(("all", *KINDS), 1.5)
    prediction = Prediction(by_kind, dict.fromkeys(LENGTHS, by_kind))
    where = {
        HERE: (Deployment(shared=True), prediction),
        "separate, 12.5 ms": (Deployment(shared=False, round_trip_seconds=0.0125), prediction),
    }
    return evaluated(gathered, where)


EVALUATED = [everything()]


def test_what_could_not_be_tried_is_said_and_not_judged() -> None:
    failed = Gathered(DraftCandidate("a", "model", "m"), failure="the draft was killed by SIGKILL")
    found = evaluated(failed, {})
    assert found.recommendation.choice is Use.NOT_TRIED
    assert found.setting is None
    assert found.as_json()["failure"] == "the draft was killed by SIGKILL"
    assert found.as_json()["recommendation"]["choice"] == "not tried"


def test_what_cannot_draft_is_not_used() -> None:
    found = evaluated(Gathered(DraftCandidate("a", "model", "m"), problem="another vocabulary"), {})
    assert found.recommendation.words == "do not use: another vocabulary"


def test_what_is_used_is_told_with_its_setting() -> None:
    setting = EVALUATED[0].setting
    assert str(setting).startswith("paceline up --target t --drafter hybrid --draft-length ")
    assert str(setting).endswith("--draft qwen2.5-coder-0.5b --draft-weights int4")
