"""Candidates judged: by what was recorded, predicted and measured; failures are no verdicts."""

from paceline_tools.bench.report import TARGET_ONLY, Ratio, Report
from paceline_tools.bench.samples import Prompt
from paceline_tools.evaluation.alone import Alone
from paceline_tools.evaluation.candidates import DraftCandidate
from paceline_tools.evaluation.prediction import LENGTHS, Deployment, Prediction
from paceline_tools.evaluation.recommendation import Use
from paceline_tools.evaluation.results import HERE, Evaluated, Gathered, evaluated, winner
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


def measured(ratio: float, spread: float, predicted: float) -> Evaluated:
    """Where measuring gives a ratio, the prompts that far apart, and replaying another."""
    samples = [sample(TARGET_ONLY, one, 2.0) for one in PROMPTS]
    for at, one in enumerate(PROMPTS):
        seconds = 2.0 / (ratio * (1 + spread * (-1) ** at))
        samples.append(sample(f"paceline_{NAME}", one, seconds))
    recorded = recording(*(drafted(kind, "MMMM") for kind in KINDS))
    gathered = Gathered(
        DraftCandidate(NAME, "hybrid", "m"),
        recording=recorded.model_copy(update={"candidate": NAME}),
        report=Report(tuple(samples), f"paceline_{NAME}"),
    )
    by_kind = dict.fromkeys(("all", *KINDS), predicted)
    prediction = Prediction(by_kind, dict.fromkeys(LENGTHS, by_kind))
    return evaluated(gathered, {HERE: (Deployment(shared=True), prediction)})


def test_an_interval_around_one_against_the_prediction_is_no_verdict() -> None:
    found = measured(0.9, 0.0, 1.5).recommendation
    assert found.choice is Use.DO_NOT_USE  # surely slower, whatever was predicted
    agreed = measured(0.95, 0.5, 0.9).recommendation
    assert agreed.choice is not Use.CANNOT_TELL or "use" in agreed.words
    unsure = measured(1.0, 0.03, 1.5).recommendation
    assert unsure.choice is Use.CANNOT_TELL
    assert unsure.words.startswith("cannot tell: measured 1.00x (95 % 0.9")
    assert unsure.words.endswith(
        "and as predicted use: 1.50x; give more prompts (--prompts), or a quieter machine"
    )


def test_how_to_serve_is_told_of_the_fastest_that_is_used() -> None:
    slow, fast, bad = measured(1.2, 0.0, 1.2), measured(1.5, 0.0, 1.5), measured(0.8, 0.0, 0.8)
    assert winner([slow, fast, bad]) is fast
    assert winner([bad]) is bad  # how to serve the target alone
    assert winner([bad, measured(1.0, 0.03, 1.5)]) is None
    assert winner([]) is None
