"""Which folder a name stands for."""

from pathlib import Path

import pytest

from paceline.catalog import CATALOG, CONVERTER, model_folder, write_version
from paceline.engine.torch import model_folder as module
from paceline.engine.torch.model_folder import resolve_model
from paceline.errors import FailedPrecondition, NotFound, Unavailable
from paceline.model_files import converted
from tests.gguf_files import small_gguf
from tests.hub import running_hub, use_hub
from tests.model_folders import model_folder_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_name_of_the_catalog_must_be_pulled_first() -> None:
    name = next(iter(CATALOG))
    with pytest.raises(NotFound, match=f"run: paceline pull {name}"):
        resolve_model(name)
    folder = model_folder_of(model_folder(name))
    write_version(folder)
    assert resolve_model(name) == folder


def test_a_folder_of_an_older_version_that_cannot_be_repaired_says_what_to_do() -> None:
    name = next(iter(CATALOG))
    folder = model_folder_of(model_folder(name))
    with pytest.raises(FailedPrecondition) as caught:
        resolve_model(name)
    assert str(caught.value) == (
        f"{folder} is of an older version and cannot be repaired: KeyError: 'added_tokens'. "
        f"Delete it, then run: paceline pull {name}"
    )


def test_a_folder_stands_for_itself_if_it_has_a_model(tmp_path: Path) -> None:
    assert resolve_model(str(model_folder_of(tmp_path / "model"))) == tmp_path / "model"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FailedPrecondition, match=r"has no config\.json"):
        resolve_model(str(tmp_path / "empty"))


def test_a_gguf_file_is_converted_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def convert(gguf: Path, folder: Path, say: object) -> None:
        made.append(model_folder_of(folder))

    monkeypatch.setattr(module, "convert", convert)
    gguf = tmp_path / "some.gguf"
    with pytest.raises(NotFound, match="does not exist"):
        resolve_model(str(gguf))
    small_gguf(gguf)
    first = resolve_model(str(gguf))
    assert resolve_model(str(gguf)) == first
    small_gguf(gguf, architecture="another")
    assert resolve_model(str(gguf)) != first
    assert len(made) == 2


def test_a_file_that_an_older_version_converted_is_converted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "convert", lambda gguf, folder, say: model_folder_of(folder))
    gguf = tmp_path / "some.gguf"
    small_gguf(gguf)
    first = resolve_model(str(gguf))
    monkeypatch.setattr(converted, "CONVERTER", CONVERTER + 1)
    assert resolve_model(str(gguf)) != first


def test_a_changed_part_of_a_split_file_makes_it_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "convert", lambda gguf, folder, say: model_folder_of(folder))
    parts = [tmp_path / f"some-{n:05}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        small_gguf(part, split=2)
    first = resolve_model(str(parts[0]))
    small_gguf(parts[1], split=2, architecture="another")
    assert resolve_model(str(parts[0])) != first


def test_a_hub_id_is_fetched_once_and_then_needs_no_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running_hub(model=model_folder_of(tmp_path / "there")) as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        folder = resolve_model("us/model")
        assert (folder / "config.json").is_file()
        asked = len(hub.asked)
        assert resolve_model("us/model") == folder
        assert resolve_model("us/model@main") == folder
        assert len(hub.asked) == asked
    assert resolve_model("us/model") == folder
    with pytest.raises(Unavailable, match=r"does not give us/other: ConnectError.*HF_ENDPOINT"):
        resolve_model("us/other")


@pytest.mark.parametrize("name", ["nope", "/no/such/folder", "a/b/c"])
def test_what_is_nothing_of_all_that_is_refused(name: str) -> None:
    with pytest.raises(NotFound, match=r"does not exist|no model is called 'nope'"):
        resolve_model(name)
