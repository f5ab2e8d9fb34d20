"""Which engine a draft gets, and that it is measured once."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from draft_server import engines
from draft_server.settings import DraftSettings
from paceline.engine import start as torch_engine
from paceline.engine.drafts import startup
from paceline.engine.drafts.engines import ENGINES, TORCH
from paceline.engine.drafts.measurements import (
    LESS_RIGHT,
    LESS_RIGHT_THAN_WHOLE,
    Comparison,
    Measured,
    all_notes,
    notes_file,
    prepared_file,
    read_notes,
)
from paceline.engine.prepared.interface import PreparedEngine
from paceline.errors import FailedPrecondition
from paceline.settings import parse


class Lacking:
    """An engine, but for what this machine has for it."""

    def __init__(self, name: str) -> None:
        self.name, self.lacks = name, ""

    def why_not(self) -> str:
        return self.lacks

    def release(self) -> str:
        return "1"


@pytest.fixture(autouse=True)
def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Lacking]:
    """The engines of a machine that has all, with a home of its own."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    found = {name: Lacking(name) for name in ENGINES}
    for name, engine in found.items():
        monkeypatch.setitem(ENGINES, name, engine)
    monkeypatch.setattr(startup, "SMALL", 1)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    return folder


class Prepared:
    """Stands in for the process that prepares and measures."""

    def __init__(
        self, refused: str = "", whole: bool = False, **engines: tuple[float, float]
    ) -> None:
        """engines: seconds of a step of one session, and the share that is right."""
        known = {"torch": (0.02, 0.9), "compiled": (0.01, 0.9), "openvino": (0.015, 0.9)} | engines
        self.found = Comparison(
            {
                name: Measured((seconds, 0.03), right)
                for name, (seconds, right) in known.items()
                if name != refused
            },
            {refused: "no such shape"} if refused else {},
            whole,
        )
        self.calls: list[int] = []

    def __call__(self, folder: Path, threads: int) -> Comparison:
        self.calls.append(threads)
        for name in self.found.engines:
            file = prepared_file(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return self.found


def settings(folder: Path, *flags: str) -> DraftSettings:
    return parse(DraftSettings, [f"--model={folder}", "--threads=2", *flags])


def chosen(monkeypatch: pytest.MonkeyPatch, given: DraftSettings) -> str:
    def begin(engine: PreparedEngine, *_: object) -> str:
        return engine.name

    monkeypatch.setattr(engines, "check_model", lambda _: None)
    monkeypatch.setattr(startup, "resolve_model", lambda model, _: Path(model))
    monkeypatch.setattr(startup, "_start", begin)
    monkeypatch.setattr(torch_engine, "start", lambda *_, **__: TORCH)
    return str(engines.start_draft(given, CollectorRegistry()))


@pytest.mark.parametrize(
    ("prepared", "wanted"),
    [
        (Prepared(), "compiled"),
        (Prepared(compiled=(0.016, 0.9)), "openvino"),
        (Prepared(compiled=(0.021, 0.9), openvino=(0.022, 0.9)), "torch"),
        (Prepared(compiled=(0.01, 0.9 - 0.99 * LESS_RIGHT)), "compiled"),
        (Prepared(compiled=(0.01, 0.9 - 1.01 * LESS_RIGHT)), "openvino"),
        (Prepared(refused="compiled"), "openvino"),
        (Prepared(whole=True, compiled=(0.01, 0.9 - 0.99 * LESS_RIGHT_THAN_WHOLE)), "compiled"),
        (Prepared(whole=True, compiled=(0.01, 0.9 - 1.01 * LESS_RIGHT_THAN_WHOLE)), "openvino"),
    ],
)
def test_the_quickest_is_chosen_of_those_that_are_as_often_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch, prepared: Prepared, wanted: str
) -> None:
    monkeypatch.setattr(startup, "_prepare", prepared)
    assert chosen(monkeypatch, settings(folder)) == wanted
    assert chosen(monkeypatch, settings(folder, "--engine=openvino")) == "openvino"
    assert chosen(monkeypatch, settings(folder, "--engine=torch")) == "torch"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--device=cuda"], "--device is cuda, and it computes on the CPU"),
        (["--weights=int8"], "--dtype must be bfloat16 and --weights int4"),
        (["--dtype=float32"], "--dtype must be bfloat16 and --weights int4"),
    ],
)
def test_what_it_does_not_compute_is_torchs_and_refused_where_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], reason: str
) -> None:
    monkeypatch.setattr(startup, "_prepare", Prepared())
    assert chosen(monkeypatch, settings(folder, *flags)) == "torch"
    with pytest.raises(FailedPrecondition, match=f"^--engine compiled: {reason}$"):
        chosen(monkeypatch, settings(folder, "--engine=compiled", *flags))


def test_what_the_machine_lacks_is_said_to_who_asks_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lacking: dict[str, Lacking]
) -> None:
    monkeypatch.setattr(startup, "_prepare", Prepared())
    for name, engine in lacking.items():
        engine.lacks = f"no {name}"
        with pytest.raises(FailedPrecondition, match=f"^--engine {name}: no {name}$"):
            chosen(monkeypatch, settings(folder, f"--engine={name}"))
    assert chosen(monkeypatch, settings(folder)) == "torch"


def test_a_shape_that_an_engine_refuses_is_said_to_who_asks_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_prepare", Prepared(refused="compiled"))
    with pytest.raises(FailedPrecondition, match=r"^--engine compiled: no such shape$"):
        chosen(monkeypatch, settings(folder, "--engine=compiled"))


def test_a_draft_that_no_prepared_engine_runs_is_torchs_and_not_prepared_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared()
    why = dict.fromkeys(ENGINES, "model type 'gemma' is none of Llama's")
    prepared.found = Comparison({}, why)
    monkeypatch.setattr(startup, "_prepare", prepared)
    assert chosen(monkeypatch, settings(folder)) == "torch"
    assert chosen(monkeypatch, settings(folder)) == "torch"
    assert prepared.calls == [2]


def test_a_small_draft_is_not_worth_preparing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared()
    monkeypatch.setattr(startup, "_prepare", prepared)
    monkeypatch.setattr(startup, "SMALL", 1024)
    assert chosen(monkeypatch, settings(folder)) == "torch"
    assert prepared.calls == []


def test_it_is_measured_once_for_each_number_of_threads_and_again_when_files_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared()
    monkeypatch.setattr(startup, "_prepare", prepared)
    first = notes_file(folder)
    for threads in (2, 2, 1, 2):
        assert startup.measured(folder, threads) == prepared.found
    assert prepared.calls == [2, 1]
    assert [where.threads for where in read_notes(first)] == [2, 1]
    assert [(name, where.threads) for name, where, _ in all_notes()] == [("model", 2), ("model", 1)]
    (folder / "model.safetensors").write_text("other weights")
    assert notes_file(folder) != first
    startup.measured(folder, 2)
    assert prepared.calls == [2, 1, 2]


def test_it_is_measured_again_with_another_engine_and_where_a_file_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lacking: dict[str, Lacking]
) -> None:
    prepared = Prepared()
    monkeypatch.setattr(startup, "_prepare", prepared)
    startup.measured(folder, 2)
    lacking["openvino"].lacks = "it is gone"
    startup.measured(folder, 2)
    assert prepared.calls == [2, 2]
    prepared_file(folder, "compiled").unlink()
    startup.measured(folder, 2)
    startup.measured(folder, 2)
    assert prepared.calls == [2, 2, 2]


def test_a_draft_that_cannot_be_prepared_is_torchs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Comparison:
        raise FailedPrecondition("no such model")

    monkeypatch.setattr(startup, "_prepare", fails)
    assert chosen(monkeypatch, settings(folder)) == "torch"
    with pytest.raises(FailedPrecondition, match="no such model"):
        chosen(monkeypatch, settings(folder, "--engine=compiled"))


def test_notes_of_another_release_are_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared()
    monkeypatch.setattr(startup, "_prepare", prepared)
    startup.measured(folder, 2)
    for older in ('[{"where": {}, "seconds": {}}]', '{"format": 1, "notes": 7}'):
        notes_file(folder).write_text(older)
        assert [*all_notes()] == []
        startup.measured(folder, 2)
        assert len([*all_notes()]) == 1
    assert prepared.calls == [2, 2, 2]
