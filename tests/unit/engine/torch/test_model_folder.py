"""Which folder a name stands for."""

from pathlib import Path

import huggingface_hub
import pytest

from paceline.catalog import CATALOG, CONVERTER, model_folder
from paceline.engine.torch import model_folder as module
from paceline.engine.torch.model_folder import resolve_model
from paceline.errors import FailedPrecondition, NotFound


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_name_of_the_catalog_must_be_pulled_first() -> None:
    name = next(iter(CATALOG))
    with pytest.raises(NotFound, match=f"run: paceline pull {name}"):
        resolve_model(name)
    folder = make_model(model_folder(name))
    assert resolve_model(name) == folder


def test_a_folder_stands_for_itself_if_it_has_a_model(tmp_path: Path) -> None:
    assert resolve_model(str(make_model(tmp_path / "model"))) == tmp_path / "model"
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"has no config\.json"):
        resolve_model(str(tmp_path / "empty"))


def test_a_gguf_file_is_converted_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        made.append(make_model(folder))

    monkeypatch.setattr(module, "convert", convert)
    gguf = tmp_path / "some.gguf"
    with pytest.raises(NotFound, match="does not exist"):
        resolve_model(str(gguf))
    gguf.write_bytes(b"one")
    first = resolve_model(str(gguf))
    assert resolve_model(str(gguf)) == first
    gguf.write_bytes(b"another")
    assert resolve_model(str(gguf)) != first
    assert len(made) == 2


def test_a_file_that_an_older_version_converted_is_converted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "convert", lambda gguf, folder: make_model(folder))
    gguf = tmp_path / "some.gguf"
    gguf.write_bytes(b"one")
    first = resolve_model(str(gguf))
    monkeypatch.setattr(module, "CONVERTER", CONVERTER + 1)
    assert resolve_model(str(gguf)) != first


def test_a_changed_part_of_a_split_file_makes_it_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "convert", lambda gguf, folder: make_model(folder))
    parts = [tmp_path / f"some-{n:05}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(b"one")
    first = resolve_model(str(parts[0]))
    parts[1].write_bytes(b"another")
    assert resolve_model(str(parts[0])) != first


def test_a_hub_id_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda hub_id: tmp_path / hub_id)
    assert resolve_model("us/model") == tmp_path / "us" / "model"

    def unreachable(hub_id: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(FailedPrecondition, match="the hub does not give us/model: no network"):
        resolve_model("us/model")


@pytest.mark.parametrize("name", ["nope", "/no/such/folder", "a/b/c"])
def test_what_is_nothing_of_all_that_is_refused(name: str) -> None:
    with pytest.raises(NotFound, match=r"no folder, no \.gguf file, no hub id and none of"):
        resolve_model(name)
