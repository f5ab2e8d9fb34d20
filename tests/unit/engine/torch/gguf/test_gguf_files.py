"""GGUF files as people have them: in parts, damaged, or of another kind; one clear line each."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from paceline.engine.torch.gguf.convert import convert_gguf
from paceline.engine.torch.gguf.gguf_file import open_gguf
from paceline.errors import FailedPrecondition
from tests.gguf_files import add_weights, byte_level_vocabulary, tiny_model, write, write_gguf
from tests.unit.engine.torch.gguf.test_gguf_models import config, plain


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A tiny model in one file."""
    return write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), plain)


def split(whole: Path) -> list[Path]:
    """The same in three parts, as llama.cpp's gguf-split cuts it."""
    reader = gguf.GGUFReader(whole)
    parts = [whole.with_name(f"model-{n:05}-of-00003.gguf") for n in (1, 2, 3)]
    for number, path in enumerate(parts):
        writer = gguf.GGUFWriter(path, "llama")
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 3)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[number::3]:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        write(writer)
    return parts


def test_all_parts_of_a_split_file_are_read(whole: Path, tmp_path: Path) -> None:
    convert_gguf(whole, tmp_path / "one")
    convert_gguf(split(whole)[1], tmp_path / "three")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "three"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_any_part_stands_for_the_whole(whole: Path) -> None:
    parts = split(whole)
    assert len(list(open_gguf(parts[2]).tensors())) == len(list(open_gguf(whole).tensors()))
    assert open_gguf(parts[2]).architecture == "llama"
    assert "tokenizer.ggml.tokens" in open_gguf(parts[1]).metadata


def test_a_missing_or_renamed_part_is_named(whole: Path) -> None:
    parts = split(whole)
    parts[1].unlink()
    with pytest.raises(FailedPrecondition, match=r"missing: model-00002-of-00003\.gguf"):
        open_gguf(parts[0])
    renamed = parts[0].rename(whole.with_name("renamed.gguf"))
    with pytest.raises(FailedPrecondition, match="named as it was split"):
        open_gguf(renamed)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model = tiny_model(config("llama"))
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    model.config.tie_word_embeddings = False
    byte_level_vocabulary(writer)
    for name, value in (("block_count", 3), ("embedding_length", 32), ("feed_forward_length", 48),
                        ("attention.head_count", 4), ("attention.head_count_kv", 2)):  # fmt: skip
        writer.add_uint32(f"llama.{name}", value)
    add_weights(writer, "llama", model)
    write(writer)
    with pytest.raises(FailedPrecondition, match=r"no tensors for model\.layers\.2\."):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "folder")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "no GGUF file"),
        (b"PK\x03\x04 something else", "no GGUF file"),
        (b"GGUF\x01\x00\x00\x00" + b"\0" * 64, "GGUF version 1"),
        (b"GGUF\x00\x00\x00\x03" + b"\0" * 64, "big-endian"),
        (b"GGUF\x03\x00\x00\x00\x05", "truncated"),
    ],
)
def test_what_is_no_readable_file_is_said_in_one_line(
    content: bytes, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(FailedPrecondition, match=named) as caught:
        convert_gguf(path, tmp_path / "folder")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept: float, whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(FailedPrecondition, match="truncated"):
        convert_gguf(whole, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(
    ("architecture", "kind", "named"),
    [
        ("llama", "adapter", "'adapter'"),
        ("clip", "model", "mmproj"),
        ("clip", "mmproj", "mmproj"),
        ("bert", "model", "'bert'"),
        ("mamba", "model", "'mamba'"),
        ("granite", "model", "'granite'"),
    ],
)
def test_other_kinds_of_files_are_refused_by_name(
    architecture: str, kind: str, named: str, tmp_path: Path
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", architecture)
    writer.add_type(kind)
    writer.add_tensor("made_up.weight", np.ones(4, np.float32))
    write(writer)
    with pytest.raises(FailedPrecondition, match=named):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "folder")
