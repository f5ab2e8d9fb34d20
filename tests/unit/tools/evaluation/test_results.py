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


def predicted_as(value: float) -> Prediction:
    """Of all kinds and draft lengths, surely."""
    kinds = ("all", *KINDS)
    intervals = dict.fromkeys(kinds, Ratio(value, value, value, len(PROMPTS)))
    return Prediction(intervals, dict.fromkeys(LENGTHS, dict.fromkeys(kinds, value)))


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
    prediction = predicted_as(1.5)
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
    assert str(setting).startswith(
        "paceline up --target t --draft hybrid:qwen2.5-coder-0.5b:int4 --draft-length "
    )


def measured(ratio: float, spread: float, predicted: float, signs: str = "MMMM") -> Evaluated:
    """Where measuring gives a ratio, the prompts that far apart, and replaying another."""
    samples = [sample(TARGET_ONLY, one, 2.0) for one in PROMPTS]
    for at, one in enumerate(PROMPTS):
        seconds = 2.0 / (ratio * (1 + spread * (-1) ** at))
        samples.append(sample(f"paceline_{NAME}", one, seconds))
    recorded = recording(*(drafted(kind, signs) for kind in KINDS))
    gathered = Gathered(
        DraftCandidate(NAME, "hybrid", "m"),
        recording=recorded.model_copy(update={"candidate": NAME}),
        report=Report(tuple(samples), f"paceline_{NAME}"),
    )
    return evaluated(gathered, {HERE: (Deployment(shared=True), predicted_as(predicted))})


def test_an_interval_around_one_against_the_prediction_is_no_verdict() -> None:
    found = measured(0.9, 0.0, 1.5).recommendation
    assert found.choice is Use.DO_NOT_USE  # surely slower, whatever was predicted
    agreed = measured(0.95, 0.5, 0.9).recommendation
    assert agreed.choice is not Use.CANNOT_TELL
    unsure = measured(1.0, 0.03, 1.5).recommendation
    assert unsure.choice is Use.CANNOT_TELL
    assert unsure.words.startswith("cannot tell: measured 1.00x (95 % 0.9")
    assert unsure.words.endswith(
        "predicted 1.50x (95 % 1.50-1.50); give more prompts (--prompts), or a quieter machine"
    )


def test_how_to_serve_is_told_of_the_fastest_that_is_used() -> None:
    slow, fast, bad = measured(1.2, 0.0, 1.2), measured(1.5, 0.0, 1.5), measured(0.8, 0.0, 0.8)
    assert winner([slow, fast, bad]) is fast
    assert winner([bad]) is bad  # how to serve the target alone
    assert winner([bad, measured(1.0, 0.03, 1.5)]) is None
    assert winner([]) is None


def test_the_figure_of_the_verdict_wins_not_what_is_not_counted() -> None:
    """Right draft tokens can bring 4 tokens a step of "MMMM", and 4/3 of "mmMm"."""
    noisy, honest = measured(3.0, 0.0, 1.2, "mmMm"), measured(1.5, 0.0, 1.5)
    assert noisy.recommendation.words == "use: 1.33x"
    assert winner([noisy, honest]) is honest
    for one in (noisy, honest):
        assert one.recommendation.words == f"use: {one.recommendation.speedup:.2f}x"
