"""How far a model is loaded is told in the log, and no bar is drawn."""

import time
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from paceline.engine import load_progress
from paceline.engine.torch.loading import load_model
from tests.tiny_models import tiny_model


def test_loading_a_model_tells_its_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_model(tmp_path)
    capsys.readouterr()
    with capture_logs() as logs:
        load_model(folder, torch.float32)
    told = [line for line in logs if line["event"] == "loading"]
    steps = list(dict.fromkeys(line["step"] for line in told))
    assert steps == ["reading weights", "hashing weights", "preparing"]
    for step in steps[:2]:
        last = [line for line in told if line["step"] == step][-1]
        assert last["done"] == last["total"] > 0
    assert capsys.readouterr() == ("", "")


def test_a_counted_step_is_told_of_now_and_then_and_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 0.4, 0.8, 1.2, 1.3, 1.4])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with capture_logs() as logs:
        advance = load_progress.counted("x", 5, "parts")
        for _ in range(5):
            advance(1)
    assert [line["done"] for line in logs] == [0, 3, 5]


def test_who_asks_meanwhile_is_told_the_step_and_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [5.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    load_progress.begin("fetching")
    assert load_progress.words() == "fetching"
    now[0] = 17.4
    assert load_progress.words() == "fetching, for 12 s"
    advance = load_progress.counted("reading weights", 200, "parts")
    advance(86)
    assert load_progress.words() == "reading weights, 43 %"
