"""Models of the hub: fetched whole and checked; what the hub refuses is said in a line."""

import errno
import importlib.util
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from paceline.errors import (
    FailedPrecondition,
    Internal,
    NotFound,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.model_files.check import check_model
from paceline.model_files.hub import fetch
from paceline.model_files.names import HubName, find
from tests.gguf_files import small_gguf
from tests.hub import COMMIT, Hub, running_hub, use_hub
from tests.model_folders import model_folder_of, write_shards

WEIGHTS = "model-00002-of-00003.safetensors"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """What the hub has of us/model: three shards, and files that nobody needs."""
    folder = model_folder_of(tmp_path / "there")
    write_shards(folder, 3)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "pytorch_model.bin").write_text("a pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(model=there) as running:
        use_hub(monkeypatch, running.url, tmp_path / "cache")
        yield running


def get(model: str) -> Path:
    name = find(model)
    assert isinstance(name, HubName)
    return fetch(name, lambda _: None, lambda _: None)


def said(model: str, kind: type[PacelineError]) -> str:
    """The message, which is one line."""
    with pytest.raises(kind) as caught:
        get(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_needed_is_fetched_and_nothing_else(hub: Hub, there: Path) -> None:
    told: list[int] = []
    came: list[int] = []
    name = find("us/model")
    assert isinstance(name, HubName)
    folder = fetch(name, told.append, came.append)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {path.name for path in there.iterdir()} - {"onnx", "pytorch_model.bin"}
    assert told == [sum(came)] == [sum(path.stat().st_size for path in folder.iterdir())]
    assert check_model("us/model") == check_model(f"us/model@{COMMIT}") == folder


def test_what_is_here_is_not_fetched_again(hub: Hub) -> None:
    folder = get("us/model")
    (folder / WEIGHTS).resolve().unlink()
    (folder / WEIGHTS).unlink()
    assert check_model("us/model") is None
    hub.asked.clear()
    assert get("us/model") == folder
    fetched = [one for one in hub.asked if one.startswith("GET") and "/resolve/" in one]
    assert fetched == [f"GET /us/model/resolve/{COMMIT}/{WEIGHTS}"]


def test_a_broken_connection_goes_on_where_it_broke(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    hub.breaks = 4
    folder = get("us/model")
    assert check_model("us/model") == folder
    assert any("bytes=64-" in one for one in hub.asked)


def test_a_gated_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = "secret"
    terms = f"us/model is gated: accept its terms at {hub.url}/us/model, then set HF_TOKEN to "
    assert said("us/model", FailedPrecondition) == f"{terms}a token of that account"
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert said("us/model", FailedPrecondition) == f"{terms}another of that account"
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert check_model("us/model") is None
    assert get("us/model") == check_model("us/model")


def test_what_is_not_there(hub: Hub) -> None:
    assert said("us/modle", NotFound) == (
        f"{hub.url} has no model us/modle, or does not show it (status 404): mind the spelling, "
        "or set HF_TOKEN to a token that may read it"
    )
    assert said("us/model@v9", NotFound) == (
        f"us/model has no revision v9; {hub.url}/us/model/tree/main has what there is"
    )


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (
            401,
            NotFound,
            "{0} has no model us/model, or does not show it (status 401): mind the spelling, or "
            "set HF_TOKEN to a token that may read it",
        ),
        (
            429,
            Unavailable,
            "{0} takes no more requests for now (status 429); pull us/model again later, or set "
            "HF_TOKEN to a token that may ask more",
        ),
        (502, Unavailable, "{0} fails at us/model (status 502); pull it again later"),
    ],
)
def test_a_hub_that_refuses(status: int, kind: type[PacelineError], message: str, hub: Hub) -> None:
    hub.status = status
    assert said("us/model", kind) == message.format(hub.url)


def test_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:1", tmp_path / "cache")
    assert said("us/model", Unavailable) == (
        "http://127.0.0.1:1 does not give us/model: ConnectError: [Errno 111] "
        "Connection refused. Pull it again once it does: what has come stays. HF_ENDPOINT names a "
        "mirror, and a folder or a .gguf file needs no hub"
    )


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert said("us/model", Unavailable) == (
        "the hub is not asked for us/model, as HF_HUB_OFFLINE is set: pull it where there is a "
        "network, or unset HF_HUB_OFFLINE"
    )
    assert hub.asked == []


def test_other_bytes_are_refused_and_deleted(hub: Hub) -> None:
    hub.wrong_hash = True
    message = said("us/model", Internal)
    assert message.startswith("us/model/model-0000")
    assert message.endswith("; it is deleted, pull it again")
    assert " came with sha256 " in message
    assert check_model("us/model") is None
    hub.wrong_hash = False
    shutil.rmtree(Path(constants.HF_HUB_CACHE))
    get("us/model")


def test_what_cannot_be_served_is_refused_before_its_weights_are_fetched(
    hub: Hub, there: Path
) -> None:
    model_folder_of(there, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "is quantized with GPTQ in 4 bits, which is not read" in said(
        "us/model", FailedPrecondition
    )
    assert not [one for one in hub.asked if "safetensors HTTP" in one or WEIGHTS in one]


def test_repositories_of_other_files(hub: Hub, there: Path) -> None:
    for path in there.glob("model*"):
        path.unlink()
    assert said("us/model", FailedPrecondition).startswith(
        "us/model on the hub has its weights in PyTorch's pickles only, which are not read; take "
        "a revision with safetensors, or convert it where you trust it: python -c "
    )
    (there / "pytorch_model.bin").unlink()
    assert said("us/model", FailedPrecondition) == (
        "us/model on the hub has no weights: there is no model.safetensors and no "
        "model.safetensors.index.json; fetch them"
    )
    (there / "config.json").unlink()
    (there / "some.gguf").touch()
    assert said("us/model", FailedPrecondition) == (
        "us/model on the hub has no config.json, but .gguf files; give one of them: some.gguf"
    )


def test_a_gguf_file_of_a_repository(hub: Hub, there: Path) -> None:
    small_gguf(there / "some.gguf")
    for n in (1, 2):
        small_gguf(there / f"split-{n:05}-of-00002.gguf", split=2)
    path = get("us/model/some.gguf")
    assert path.name == "some.gguf"
    assert check_model("us/model/some.gguf@main") == path
    part = get("us/model/split-00002-of-00002.gguf")
    assert check_model("us/model/split-00001-of-00002.gguf") == part.with_name(
        "split-00001-of-00002.gguf"
    )
    assert said("us/model/nope.gguf", NotFound) == (
        "us/model on the hub has no nope.gguf; of .gguf files it has: some.gguf, "
        "split-00001-of-00002.gguf, split-00002-of-00002.gguf"
    )


def test_a_missing_file_in_a_folder_that_is_here_is_not_sought_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "some").mkdir(parents=True)
    with pytest.raises(NotFound, match=r"'models/some/x\.gguf' does not exist"):
        find("models/some/x.gguf")


def test_room_is_looked_at_before_anything_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000))
    assert said("us/model", ResourceExhausted) == (
        f"us/model needs 67 MB at {constants.HF_HUB_CACHE}, which has 5 kB free; make room, or "
        "name a folder on another disk with HF_HOME"
    )
    assert not [one for one in hub.asked if "/resolve/" in one]


def test_a_disk_that_fills_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert said("us/model", ResourceExhausted) == (
        "the disk is full: us/model has not all come; make room, or name a folder on another "
        "disk with HF_HOME"
    )


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert said("us/model", FailedPrecondition) == (
        "the hub needs the engine extra, and huggingface_hub is not installed; "
        "run: pip install 'paceline[engine]'"
    )
