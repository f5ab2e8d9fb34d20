"""paceline simulate with traffic: what it says, and how it says what is wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from paceline_tools.cli.app import main

QUICK = ("--requests=20", "--output-tokens=20", "--prompt-tokens=10", "--streams=4")


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    main(["simulate", *QUICK, *flags])
    return capsys.readouterr().out


def test_a_plan_says_what_to_have_and_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--arrivals=20", "--candidate=small=0.9:1")
    assert text.startswith("have ")
    assert "a million" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "none" in text
    words = " ".join(text.split())
    assert "its interval over 3 seeds of 20 requests; more --requests narrow it" in words
    assert (
        "Assumed: draft tokens are right at the rates given, at every position: 'small' 0.9."
        in words
    )
    assert "small" in text


def test_a_plan_for_scripts_has_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(
        run(capsys, "--arrivals=20", "--candidate=small=0.9:1", "--json")
    )
    alone, drafted = found["plans"]
    assert (alone["draft"], drafted["draft"]) == ("none", "small")
    assert alone["drafts"] == 0 < drafted["drafts"]
    assert found["best"] in {"none", "small"}
    assert drafted["cost_low"] <= drafted["cost"] <= drafted["cost_high"]
    assert drafted["ttft_p99_ms"] <= 1000
    assert drafted["requests_per_second_per_target"] > alone["requests_per_second_per_target"] > 0


def test_by_cost_fewer_drafts_are_at_work_for_as_much_traffic(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--arrivals=60", "--candidate=small=0.7:2.5", "--target-price=1", "--draft-price=2")
    by_time, by_cost = (
        json.loads(run(capsys, *flags, f"--objective={objective}", "--json"))["plans"][1]
        for objective in ("time", "cost")
    )
    assert by_cost["drafts"] < by_time["drafts"]
    assert by_cost["cost"] < by_time["cost"]


def test_limits_that_nothing_keeps_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--arrivals=1", "--acceptance=0.5", "--ttft-p99-ms=1", "--prompt-tokens=10")
    with pytest.raises(SystemExit) as ended:
        run(capsys, *flags)
    assert ended.value.code == 1
    text = " ".join(capsys.readouterr().out.split())
    wanted = r"no number of servers keeps these limits: --ttft-p99-ms is 1 and ([\d.]+) is the "
    found = re.match(wanted + "nearest, (without drafts|with '0.5'), nearly alone", text)
    assert found
    assert float(found[1]) > 25
    with pytest.raises(SystemExit) as ended:
        run(capsys, *flags, "--json")
    assert ended.value.code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["best"] is None
    assert said["nearest"]["missed"]["ttft_p99_ms"] == pytest.approx(float(found[1]), abs=0.1)


def costs() -> dict[str, Any]:
    return {
        "target": {
            "verify": {"0": 0.025, "4": 0.026},
            "prompt_token": 0.0001,
            "round_trip": 0.0005,
            "verify_token": 0.0002,
        },
        "draft": {"step": 0.002, "restart": 0.003, "prompt_token": 0.0001, "round_trip": 0.001},
    }


def evaluation(tmp_path: Path, content: object) -> str:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_drafts_and_times_of_an_evaluation_are_planned_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = {
        "candidate": {"name": "small"},
        "acceptance": {"all": {"rate": 0.8}},
        "costs": costs(),
    }
    path = evaluation(tmp_path, {"candidates": [one, {**one, "costs": None}]})
    found = json.loads(run(capsys, "--arrivals=5", f"--evaluation={path}", "--json"))
    assert [plan["draft"] for plan in found["plans"]] == ["none", "small"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--arrivals=1",), "a plan needs a draft: --candidate, --acceptance or --evaluation must"),
        (("--arrivals=1", "--trace=x.csv"), "--trace and --arrivals must not be given together"),
        (("--arrivals=1e9", "--acceptance=0.5"), "100000"),
        (("--arrivals=1", "--acceptance=0.5", "--streams=100000"), "65536"),
        (("--arrivals=1", "--acceptance=0.5", "--step-ms=1e9"), "600000"),
        (("--arrivals=1", "--acceptance=0.5", "--target-price=1e9"), "1000000"),
        (("--arrivals=1", "--candidate=small=0.5:1e9"), "--candidate is 'small=0.5:1e9'; it must"),
        (("--arrivals=1", "--candidate=small"), "--candidate is 'small'; it must be NAME="),
        (("--arrivals=1", "--candidate=a=2:1"), "--candidate is 'a=2:1'; it must be NAME="),
        (("--arrivals=1", "--candidate=a=nan:1"), "--candidate is 'a=nan:1'; it must be NAME="),
        (("--arrivals=1", "--evaluation=none.json"), "--evaluation none.json is not there"),
        (("--trace=none.csv", "--acceptance=0.5"), "none.csv: No such file"),
        (
            ("--objective=cost",),
            "--objective is cost; it needs traffic: --arrivals or --trace",
        ),
        (
            ("--max-token-latency-ms=40",),
            "--max-token-latency-ms is 40; it must be given with --objective cost",
        ),
        (
            ("--arrivals=1", "--acceptance=0.5", "--objective=cost", "--target-price=0"),
            "--target-price is 0; it must be more with --objective cost",
        ),
        (
            ("--arrivals=1", "--acceptance=0.5", "--output-tokens=x"),
            "--output-tokens is 'x'; it must be N, LOW-HIGH or exp:MEAN",
        ),
    ],
)
def test_what_cannot_be_planned_is_named(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", *flags])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "is not what paceline evaluate --json writes"),
        ({"candidates": [{"costs": 1}]}, "is not what paceline evaluate --json writes"),
        ({"candidates": []}, "has no draft that was recorded"),
    ],
)
def test_an_evaluation_that_is_none_is_named(
    content: object, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--arrivals=1", f"--evaluation={evaluation(tmp_path, content)}"])
    assert said in capsys.readouterr().err
