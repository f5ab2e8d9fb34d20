"""What is measured of a draft, by engines in processes of their own."""

from pathlib import Path

import pytest
import torch

from paceline.engine.drafts.engines import TORCH, possible
from paceline.engine.drafts.measurements import Comparison, prepared_file
from paceline.engine.drafts.preparation import compare
from paceline.engine.torch.loading import load_model
from tests.tiny_models import tiny_model


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))


def test_an_engine_that_fails_while_it_is_measured_is_left_out_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny", dtype="bfloat16", heads=(2, 1))
    *others, failing = [engine.name for engine in possible()]
    file = prepared_file(model, failing)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no draft")
    found = compare(model, threads=1)
    assert set(found.engines) == {TORCH, *others}
    loaded = load_model(model, torch.bfloat16, "cpu", "int4")
    assert found.whole == (loaded.quantized_bytes == 0)  # as this CPU has it
    [(name, reason)] = found.refused.items()
    assert name == failing
    assert reason.startswith("it failed while it was measured: ")


def test_a_draft_that_no_prepared_engine_runs_is_not_measured(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny", "gemma", dtype="bfloat16")
    names = [engine.name for engine in possible()]
    why = "model type 'gemma' is none of Llama's"
    assert compare(model, threads=1) == Comparison({}, dict.fromkeys(names, why))
