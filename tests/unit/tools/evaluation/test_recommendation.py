"""Verdicts: words a person can act on, and figures behind them."""

import pytest

from paceline.protocol.verdict import TokenLogprobs
from paceline_tools.evaluation.alone import common, perplexity
from paceline_tools.evaluation.prediction import Prediction
from paceline_tools.evaluation.recommendation import (
    Use,
    break_even,
    judge,
    not_tried,
    unfit,
)
from tests.unit.tools.evaluation.test_recording import (
    DRAFT,
    ROUND_TRIP,
    STEP,
    VERIFY_TOKEN,
    drafted,
    recording,
)

RECORDING = recording(drafted("code", "MMMm"), drafted("prose", "mmMm"))


def prediction(**forced: float) -> Prediction:
    fixed = {0: {"all": 1.0}, 4: {"all": forced.get("at_4", 1.5)}}
    return Prediction({"all": 1.0}, fixed)


@pytest.mark.parametrize(
    ("effect", "choice", "words"),
    [
        ({"code": 1.9, "prose": 1.3, "all": 1.6}, Use.USE, "use: 1.60x"),
        (
            {"code": 1.9, "prose": 0.99, "all": 1.4},
            Use.USE_FOR_SOME,
            "use only for code: code 1.90x; the others gain nothing: prose 0.99x",
        ),
        (
            {"code": 0.9, "prose": 0.7, "all": 0.8},
            Use.DO_NOT_USE,
            "do not use: it would be 0.80x",
        ),
    ],
)
def test_it_says_what_to_do(effect: dict[str, float], choice: Use, words: str) -> None:
    recommendation = judge(effect, "measured", RECORDING, prediction())
    assert (recommendation.choice, recommendation.words) == (choice, words)
    assert recommendation.use is (choice is not Use.DO_NOT_USE)
    assert f"measured: {effect['all']:.2f}x" in recommendation.reasons[0]
    assert "0.50 of its draft tokens" in recommendation.reasons[1]


def test_what_the_pacer_holds_back_is_told_with_what_it_would_be() -> None:
    effect = {"code": 0.98, "all": 0.98}
    recommendation = judge(effect, "measured", RECORDING, prediction(at_4=0.6))
    assert "0.60x at its best draft length, and 0.98x as the pacer" in recommendation.words


def test_what_draft_tokens_cannot_have_brought_is_not_counted() -> None:
    wrong_vocabulary = recording(drafted("code", "mmmm"), drafted("prose", "mmMm"))
    assert wrong_vocabulary.ceiling("code") == 1.0
    assert wrong_vocabulary.ceiling("prose") == 4 / 3
    effect = {"code": 1.4, "prose": 1.0, "all": 1.2}
    recommendation = judge(effect, "measured", wrong_vocabulary, prediction(at_4=0.6))
    assert recommendation.choice is Use.DO_NOT_USE
    assert "code 1.40x" in recommendation.reasons[0]
    assert "can bring: 1.14x (code 1.00x" in recommendation.reasons[0]


def test_a_candidate_that_cannot_draft_is_not_used() -> None:
    recommendation = unfit("its vocabulary is not the target's")
    assert not recommendation.use
    assert "vocabulary" in recommendation.words


def test_a_draft_token_pays_where_it_is_right_more_often_than_its_share_of_a_step() -> None:
    assert break_even(RECORDING, ROUND_TRIP) == pytest.approx(
        (DRAFT + ROUND_TRIP + VERIFY_TOKEN) / STEP
    )


def test_outputs_are_compared_from_their_beginning() -> None:
    assert common((1, 2, 3), (1, 2, 4)) == 2
    assert common((1, 2), (1, 2, 4)) == 2
    assert perplexity([TokenLogprobs(-1.0), TokenLogprobs(-3.0)]) == pytest.approx(7.389056)


def test_what_could_not_be_tried_is_no_verdict() -> None:
    recommendation = not_tried("the draft was killed by SIGKILL")
    assert not recommendation.use
    assert recommendation.choice.value == "not tried"
    assert recommendation.words == (
        "not tried, so there is no verdict on it: the draft was killed by SIGKILL"
    )
