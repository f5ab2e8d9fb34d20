"""GGUF files that are cut, of another kind, or without all their parts: refused in a line."""

from pathlib import Path

import pytest

from paceline.errors import FailedPrecondition
from paceline.model_files.check import check_model
from tests.gguf_files import small_gguf
from tests.model_folders import model_folder_of


def said(path: Path) -> str:
    with pytest.raises(FailedPrecondition) as caught:
        check_model(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_file_passes_whatever_its_name(tmp_path: Path) -> None:
    for name in ("some.gguf", "sha256-1234"):
        path = small_gguf(tmp_path / name)
        assert check_model(str(path)) == path


def test_every_cut_is_seen(tmp_path: Path) -> None:
    whole = small_gguf(tmp_path / "whole.gguf").read_bytes()
    end = len(whole) - len(whole) % 32 if len(whole) % 32 else len(whole)
    path = tmp_path / "cut.gguf"
    for size in (*range(24, len(whole) - 200, 7), end - 100):
        path.write_bytes(whole[:size])
        message = said(path)
        assert message.startswith(f"{path} ")
        assert "truncated" in message
        assert message.endswith("fetch it again")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "{0} is no GGUF file: it has 0 bytes"),
        (b"<html>" * 9, "{0} is no GGUF file; give a model folder or a .gguf file"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "{0} cannot be read: it is Git LFS's pointer to the file, not the file; "
            "run: git -C {1} lfs pull",
        ),
        (
            b"GGUF" + (1).to_bytes(4, "little") + bytes(16),
            "{0} has GGUF version 1; versions 2 and 3, little-endian, are read",
        ),
        (
            b"GGUF" + (3).to_bytes(4, "big") + bytes(16),
            "{0} is big-endian; versions 2 and 3, little-endian, are read",
        ),
        (
            b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16,
            "{0} cannot be read as GGUF: it is truncated or damaged; fetch it again",
        ),
    ],
)
def test_files_of_something_else(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.gguf"
    path.write_bytes(data)
    assert said(path) == message.format(path, tmp_path)


def test_a_file_within_a_model_folder(tmp_path: Path) -> None:
    path = model_folder_of(tmp_path) / "model.safetensors"
    assert said(path) == f"{path} is no GGUF file; give its folder, {tmp_path}"


def test_files_of_no_whole_model(tmp_path: Path) -> None:
    for path, kind in (
        (small_gguf(tmp_path / "a.gguf", kind="adapter"), "adapter"),
        (small_gguf(tmp_path / "b.gguf", architecture="clip"), "mmproj"),
    ):
        assert said(path) == (
            f"{path} holds '{kind}', not a whole model; give the model's own .gguf file"
        )


def test_parts(tmp_path: Path) -> None:
    parts = [small_gguf(tmp_path / f"m-{n:05}-of-00003.gguf", split=3) for n in (1, 2, 3)]
    assert check_model(str(parts[1])) == parts[1]
    parts[1].write_bytes(parts[1].read_bytes()[:60])
    assert said(parts[0]) == (
        f"{parts[1]} cannot be read as GGUF: it is truncated or damaged; fetch it again"
    )
    parts[1].unlink()
    assert said(parts[0]) == (
        f"{parts[0]} is one of 3 parts; missing: m-00002-of-00003.gguf; fetch what is missing"
    )
    renamed = parts[0].rename(tmp_path / "renamed.gguf")
    assert said(renamed) == (
        f"{renamed} is one of 3 parts, so it must be named as it was split: "
        "NAME-00001-of-00003.gguf"
    )
