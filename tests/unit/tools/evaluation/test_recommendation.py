"""Verdicts: words a person can act on, and figures behind them."""

import pytest

from paceline.protocol.verdict import TokenLogprobs
from paceline_tools.bench.report import Ratio
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
RIGHT = recording(drafted("code", "MMMM"), drafted("prose", "MMMM"))
"""Its draft tokens can bring anything up to 4x."""


def sure(value: float) -> Ratio:
    return Ratio(value, value, value, 4)


def prediction(at_4: float = 1.5, **intervals: Ratio) -> Prediction:
    fixed = {0: {"all": 1.0}, 4: {"all": at_4}}
    kinds = dict.fromkeys(("all", "code", "prose"), sure(1.0))
    return Prediction(kinds | intervals, fixed)


@pytest.mark.parametrize(
    ("effect", "choice", "words"),
    [
        ({"code": 1.9, "prose": 1.3, "all": 1.6}, Use.USE, "use: 1.60x"),
        (
            {"code": 1.9, "prose": 0.99, "all": 1.4},
            Use.USE_FOR_SOME,
            "use only for code: code 1.90x; the others gain nothing: prose 0.99x; together 1.40x",
        ),
        (
            {"code": 0.9, "prose": 0.7, "all": 0.8},
            Use.DO_NOT_USE,
            "do not use: it would be 0.80x",
        ),
    ],
)
def test_it_says_what_to_do(effect: dict[str, float], choice: Use, words: str) -> None:
    figures = {kind: sure(value) for kind, value in effect.items()}
    recommendation = judge(figures, "measured", RIGHT, prediction())
    assert (recommendation.choice, recommendation.words) == (choice, words)
    assert recommendation.use is (choice is not Use.DO_NOT_USE)
    assert recommendation.speedup == effect["all"]
    [known, rates, *_] = recommendation.reasons
    over, code, prose = (f"{effect[kind]:.2f}" for kind in ("all", "code", "prose"))
    assert known == (
        f"measured {over}x (95 % {over}-{over}; code {code}x, prose {prose}x); "
        "predicted 1.00x (95 % 1.00-1.00; code 1.00x, prose 1.00x)"
    )
    assert "1.00 of its draft tokens" in rates


def test_what_the_pacer_holds_back_is_told_with_what_it_would_be() -> None:
    effect = {"code": sure(0.98), "all": sure(0.98)}
    recommendation = judge(effect, "measured", RECORDING, prediction(at_4=0.6))
    assert "0.60x at its best draft length, and 0.98x as the pacer" in recommendation.words


def test_what_draft_tokens_cannot_have_brought_is_not_counted() -> None:
    wrong_vocabulary = recording(drafted("code", "mmmm"), drafted("prose", "mmMm"))
    assert wrong_vocabulary.ceiling("code") == 1.0
    assert wrong_vocabulary.ceiling("prose") == 4 / 3
    effect = {"code": sure(1.4), "prose": sure(1.0), "all": Ratio(1.2, 1.1, 1.3, 8)}
    recommendation = judge(effect, "measured", wrong_vocabulary, prediction(at_4=0.6))
    assert recommendation.choice is Use.DO_NOT_USE
    assert "measured 1.20x (95 % 1.10-1.30; code 1.40x" in recommendation.reasons[0]
    assert recommendation.reasons[1] == (
        "1.00x counts (code 1.00x, prose 1.00x): its right draft tokens save no more steps of the "
        "target than that, and what was measured above it is noise"
    )
    assert recommendation.speedup == pytest.approx(1.0)


OPEN = Ratio(1.17, 0.68, 2.0, 4)
"""1 is in it."""


@pytest.mark.parametrize(
    ("measured", "predicted", "words"),
    [
        (OPEN, Ratio(1.3, 1.2, 1.4, 4), "use: 1.17x"),
        (
            OPEN,
            Ratio(1.1, 0.9, 1.3, 4),
            "cannot tell: measured 1.17x (95 % 0.68-2.00), predicted 1.10x (95 % 0.90-1.30); give "
            "more prompts (--prompts), or a quieter machine",
        ),
        (
            OPEN,
            sure(1.02),  # above 1, and less than pays
            "cannot tell: measured 1.17x (95 % 0.68-2.00), predicted 1.02x (95 % 1.02-1.02); give "
            "more prompts (--prompts), or a quieter machine",
        ),
        (Ratio(1.17, 1.01, 1.4, 4), sure(0.9), "use: 1.17x"),
        (Ratio(0.97, 0.8, 1.2, 4), sure(1.01), "do not use: it would be 0.97x"),
        (Ratio(0.97, 0.95, 0.99, 4), Ratio(1.3, 0.9, 1.5, 4), "do not use: it would be 0.97x"),
        (
            Ratio(0.97, 0.8, 1.2, 4),
            Ratio(1.01, 0.9, 1.1, 4),
            "cannot tell: measured 0.97x (95 % 0.80-1.20), predicted 1.01x (95 % 0.90-1.10); give "
            "more prompts (--prompts), or a quieter machine",
        ),
    ],
)
def test_an_interval_with_one_in_it_is_no_result_unless_the_prediction_agrees(
    measured: Ratio, predicted: Ratio, words: str
) -> None:
    figures = {"all": measured, "code": measured}
    expected = prediction(all=predicted, code=predicted)
    assert judge(figures, "measured", RIGHT, expected).words == words


def test_a_prediction_that_decides_is_told() -> None:
    figures = {"all": OPEN, "code": OPEN}
    used = judge(figures, "measured", RIGHT, prediction(all=Ratio(1.3, 1.2, 1.4, 4)))
    assert used.reasons[1] == (
        "what was measured leaves it open, as 1 is in its interval; the prediction decides: it "
        "agrees, and its interval lies above 1: 1.20-1.40"
    )
    slow = Ratio(0.97, 0.8, 1.2, 4)
    not_used = judge({"all": slow, "code": slow}, "measured", RIGHT, prediction())
    assert not_used.reasons[1].endswith(
        "agrees, and its interval lies below 1.05, which is the least that pays: 1.00-1.00"
    )


def test_a_prediction_alone_is_held_to_the_same_rule() -> None:
    figures = {"all": OPEN, "code": OPEN}
    found = judge(figures, "predicted for separate, 20 ms", RIGHT, prediction())
    assert found.words == (
        "cannot tell: predicted for separate, 20 ms 1.17x (95 % 0.68-2.00); give more prompts "
        "(--prompts)"
    )
    assert found.reasons[0] == ("predicted for separate, 20 ms 1.17x (95 % 0.68-2.00; code 1.17x)")


def test_each_kind_that_it_is_for_has_to_be_sure() -> None:
    figures = {"all": OPEN, "code": OPEN, "prose": sure(0.9)}
    found = judge(figures, "measured", RIGHT, prediction())
    assert found.words == (
        "cannot tell: measured code 1.17x (95 % 0.68-2.00), predicted code 1.00x (95 % 1.00-1.00); "
        "give more prompts (--prompts), or a quieter machine"
    )
    agreed = judge(figures, "measured", RIGHT, prediction(code=sure(1.2)))
    assert agreed.choice is Use.USE_FOR_SOME


def test_what_draft_tokens_can_bring_is_a_mean_of_outputs_as_speed_ups_are() -> None:
    """A long output does not weigh more than a short one: 1 and 4 tokens a step come to 2."""
    one = recording(drafted("code", "m" * 40), drafted("code", "MMMM"))
    assert one.ceiling() == pytest.approx(2.0)
    figures = {"all": sure(1.9), "code": sure(1.9)}
    assert judge(figures, "measured", one, prediction()).words == "use: 1.90x"


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
