"""What is said of a candidate that an orchestrator shadows."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import FailedPrecondition
from paceline.machine import describe_machine
from paceline.protocol.status import (
    DraftPoolStatus,
    Interval,
    PoolState,
    Shadow,
    ShadowCounts,
    ShadowTimes,
    Speedup,
    Status,
)
from paceline_tools.cli import evaluate_live as command
from paceline_tools.cli.app import main
from paceline_tools.evaluation import live
from paceline_tools.evaluation.live import RUNS, judged, predicted
from paceline_tools.evaluation.recommendation import Use


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TOKENS", 200)


GOOD = Shadow(
    name="candidate",
    share=0.1,
    model="small",
    counts=ShadowCounts(40, 2, 1, 3000, 2550),
    outputs=40,
    tokens=4000,
    acceptance=Interval(0.85, 0.83, 0.87),
    draft_rate=1.0,
    times=ShadowTimes(0.0025, 0.003, 0.025, 0.0),
)
BAD = replace(GOOD, acceptance=Interval(0.05, 0.03, 0.07))


def in_use(low: float, high: float) -> DraftPoolStatus:
    speedup = Speedup((low + high) / 2, low, high)
    return DraftPoolStatus("old", state=PoolState.IN_USE, acceptance_rate=0.5, speedup=speedup)


def status(shadow: Shadow | None, *pools: DraftPoolStatus) -> Status:
    shadows = () if shadow is None else (shadow,)
    return Status(describe_machine(), (), draft_pools=pools, shadows=shadows)


def test_a_draft_that_is_always_right_and_takes_no_time_is_as_good_as_can_be() -> None:
    """Sixteen draft tokens and the target's own are decided a step: 17 times the target alone."""
    perfect = replace(
        GOOD,
        acceptance=Interval(1.0, 1.0, 1.0),
        times=ShadowTimes(1e-6, 1e-6, 1.0, 0.0),
    )
    found = predicted(perfect)
    assert found is not None
    assert 5 < found.low <= found.value <= found.high <= 17


def test_a_draft_that_is_never_right_is_the_target_alone() -> None:
    found = predicted(replace(GOOD, acceptance=Interval(0.0, 0.0, 0.0)))
    assert found is not None
    assert found.value == pytest.approx(1.0, abs=0.03)


def test_a_better_acceptance_rate_predicts_a_better_speedup_and_a_wider_one_a_wider() -> None:
    bad, good = predicted(BAD), predicted(GOOD)
    wide = predicted(replace(GOOD, acceptance=Interval(0.85, 0.4, 0.95)))
    assert bad is not None
    assert good is not None
    assert wide is not None
    assert bad.high < good.low
    assert wide.low < good.low <= good.high < wide.high
    assert wide.value == good.value


def test_lookup_that_seldom_has_a_draft_token_brings_less() -> None:
    lookup = replace(GOOD, free=True)
    seldom, often = predicted(replace(lookup, draft_rate=0.1)), predicted(lookup)
    assert seldom is not None
    assert often is not None
    assert seldom.value < often.value


@pytest.mark.parametrize(
    ("shadow", "pools", "choice", "words"),
    [
        (GOOD, (), Use.USE, "promote: predicted"),
        (GOOD, (in_use(1.1, 1.3),), Use.USE, "and old, in use, is at 1.20x (95 % 1.10-1.30)"),
        (GOOD, (in_use(9.0, 9.2),), Use.DO_NOT_USE, "do not promote: predicted"),
        (BAD, (), Use.DO_NOT_USE, "and no draft is in use; below 1.05x none is worth it"),
        (GOOD, (in_use(1.0, 9.0),), Use.CANNOT_TELL, "have more outputs shadowed"),
        (
            GOOD,
            (DraftPoolStatus("old", state=PoolState.IN_USE),),
            Use.CANNOT_TELL,
            "and old is in use, not measured yet",
        ),
        (Shadow(name="new"), (), Use.CANNOT_TELL, "cannot tell yet: no output was shadowed"),
        (
            Shadow(name="new", hindrance="none of 1 servers is ready"),
            (),
            Use.CANNOT_TELL,
            "cannot tell: none of 1 servers is ready",
        ),
    ],
)
def test_the_advice_is_by_intervals(
    shadow: Shadow, pools: tuple[DraftPoolStatus, ...], choice: Use, words: str
) -> None:
    (found,) = judged(status(shadow, *pools))
    assert found.recommendation.choice is choice
    assert words in found.recommendation.words


def test_progress_is_told_of_each_run() -> None:
    told: list[None] = []
    judged(status(GOOD), lambda: told.append(None))
    assert len(told) == RUNS


Answer = Callable[[str, dict[str, Any]], Coroutine[Any, Any, Status]]


def answering(found: Status, shown: dict[str, Any] | None = None) -> Answer:
    """shown: what must be shown to the orchestrator."""

    async def answer(_: str, access: dict[str, Any]) -> Status:
        assert shown is None or access == shown
        return found

    return answer


@pytest.mark.parametrize(("shadow", "code"), [(GOOD, 0), (BAD, 3), (Shadow(name="candidate"), 4)])
def test_the_command_says_so_and_ends_so(
    shadow: Shadow,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    access = {"token": "of-mine", "ca": None, "certificate": None, "key": None}
    monkeypatch.setattr(command, "_status", answering(status(shadow), access))
    path = tmp_path / "found.json"
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--live", "--token=of-mine", "--json", str(path)])
    assert ended.value.code == code
    shown = capsys.readouterr().out
    assert shown.startswith("candidate ")
    assert max(map(len, shown.splitlines())) <= 80
    (written,) = json.loads(path.read_text())
    assert written["name"] == "candidate"
    assert written["recommendation"] in {"use", "do not use", "cannot tell"}


def test_an_orchestrator_that_shadows_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_status", answering(status(None)))
    with pytest.raises(FailedPrecondition) as raised:
        command.evaluate_live("here:7070", {}, None)
    assert str(raised.value) == (
        "the orchestrator at here:7070 shadows no draft; start it with --shadow-draft "
        "NAME=HOST:PORT"
    )
