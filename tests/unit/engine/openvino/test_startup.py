"""Which engine a draft gets, and that it is measured once."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from draft_server import engines
from draft_server.settings import DraftSettings
from paceline.engine import start as own_engine
from paceline.engine.openvino import startup
from paceline.engine.openvino.measurements import (
    LESS_RIGHT,
    Comparison,
    Measured,
    all_notes,
    prepared_file,
    read_notes,
)
from paceline.errors import FailedPrecondition
from paceline.settings import parse


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(startup, "is_installed", lambda: True)
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    return folder


class Prepared:
    """Stands in for the process that prepares and measures."""

    def __init__(self, own: float = 0.02, openvino_right: float = 0.9) -> None:
        self.found = Comparison(Measured((own, 0.03), 0.9), Measured((0.01, 0.03), openvino_right))
        self.calls: list[int] = []

    def __call__(self, folder: Path, file: Path, threads: int) -> Comparison:
        self.calls.append(threads)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return self.found


def settings(folder: Path, *flags: str) -> DraftSettings:
    return parse(DraftSettings, [f"--model={folder}", "--threads=2", *flags])


def chosen(monkeypatch: pytest.MonkeyPatch, given: DraftSettings) -> str:
    monkeypatch.setattr(engines, "check_model", lambda _: None)
    monkeypatch.setattr(startup, "resolve_model", lambda model, _: Path(model))
    monkeypatch.setattr(startup, "_start", lambda *_: "openvino")
    monkeypatch.setattr(own_engine, "start", lambda *_, **__: "own")
    return str(engines.start_draft(given, CollectorRegistry()))


@pytest.mark.parametrize(
    ("prepared", "wanted"),
    [
        (Prepared(), "openvino"),
        (Prepared(own=0.009), "own"),
        (Prepared(openvino_right=0.9 - 0.99 * LESS_RIGHT), "openvino"),
        (Prepared(openvino_right=0.9 - 1.01 * LESS_RIGHT), "own"),
    ],
)
def test_the_quicker_one_is_chosen_where_it_is_as_often_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch, prepared: Prepared, wanted: str
) -> None:
    monkeypatch.setattr(startup, "_prepare", prepared)
    assert chosen(monkeypatch, settings(folder, "--engine=auto")) == wanted
    assert chosen(monkeypatch, settings(folder)) == "own"
    assert chosen(monkeypatch, settings(folder, "--engine=openvino")) == "openvino"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--device=cuda"], "--device is cuda, and it computes on the CPU"),
        (["--weights=int8"], "--dtype must be bfloat16 and --weights int4"),
        (["--dtype=float32"], "--dtype must be bfloat16 and --weights int4"),
    ],
)
def test_what_it_does_not_compute_is_ours_and_refused_where_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], reason: str
) -> None:
    monkeypatch.setattr(startup, "_prepare", Prepared())
    assert chosen(monkeypatch, settings(folder, "--engine=auto", *flags)) == "own"
    with pytest.raises(FailedPrecondition, match=f"^--engine openvino: {reason}$"):
        chosen(monkeypatch, settings(folder, "--engine=openvino", *flags))


def test_without_openvino_it_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "is_installed", lambda: False)
    assert chosen(monkeypatch, settings(folder, "--engine=auto")) == "own"
    with pytest.raises(FailedPrecondition, match=r"pip install 'paceline\[openvino\]'$"):
        chosen(monkeypatch, settings(folder, "--engine=openvino"))


def test_it_is_measured_once_for_each_number_of_threads_and_again_when_files_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared()
    monkeypatch.setattr(startup, "_prepare", prepared)
    first = prepared_file(folder)
    for threads in (2, 2, 1, 2):
        assert startup.measured(folder, threads) == prepared.found
    assert prepared.calls == [2, 1]
    assert [where.threads for where in read_notes(first)] == [2, 1]
    assert [(name, where.threads) for name, where, _ in all_notes()] == [("model", 2), ("model", 1)]
    (folder / "model.safetensors").write_text("other weights")
    assert prepared_file(folder) != first
    startup.measured(folder, 2)
    assert prepared.calls == [2, 1, 2]


def test_a_draft_that_cannot_be_prepared_is_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Comparison:
        raise FailedPrecondition("no such graph")

    monkeypatch.setattr(startup, "_prepare", fails)
    assert chosen(monkeypatch, settings(folder, "--engine=auto")) == "own"
    with pytest.raises(FailedPrecondition, match="no such graph"):
        chosen(monkeypatch, settings(folder, "--engine=openvino"))


def test_notes_of_another_release_are_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared()
    monkeypatch.setattr(startup, "_prepare", prepared)
    startup.measured(folder, 2)
    notes = prepared_file(folder).with_suffix(".json")
    for older in ('[{"where": {}, "seconds": {}}]', '{"format": 1, "notes": 7}'):
        notes.write_text(older)
        assert [*all_notes()] == []
        startup.measured(folder, 2)
        assert len([*all_notes()]) == 1
    assert prepared.calls == [2, 2, 2]
