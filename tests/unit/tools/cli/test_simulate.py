"""paceline simulate: predictions that a person can act on."""

import json

import pytest

from paceline_tools.cli.app import main


def predict(capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict[str, float | str]]:
    main(["simulate", "--json", "--tokens=600", *flags])
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


def test_a_good_draft_pays_in_time_and_money_and_a_bad_one_in_neither(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad, good = predict(capsys, "--acceptance=0.05", "--acceptance=0.9")
    assert bad["recommendation"] == "the target alone"
    assert float(bad["speedup"]) > 0.95
    assert good["recommendation"] == "faster and cheaper"
    assert float(good["speedup"]) > max(2.0, 0.95 * float(good["fixed"]))
    assert float(good["cost"]) < float(good["cost_alone"]) == bad["cost_alone"]


def test_a_expensive_draft_is_faster_at_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    [expensive] = predict(capsys, "--acceptance=0.8", "--draft-price=40", "--draft-streams=8")
    assert expensive["drafts_per_target"] == 2
    assert "times the cost" in str(expensive["recommendation"])
