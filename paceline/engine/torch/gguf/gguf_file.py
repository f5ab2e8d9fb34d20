"""A GGUF file with all its parts: metadata as Python values, tensors still quantized."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFReader, ReaderTensor

from paceline.errors import FailedPrecondition

VERSIONS = (2, 3)
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """metadata: of the first part. readers: of all parts, in order."""

    path: Path
    metadata: dict[str, Any]
    readers: tuple[GGUFReader, ...]

    @property
    def architecture(self) -> str:
        """The family's name, of which its keys begin."""
        return str(self.metadata["general.architecture"])

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, {arch} standing for the architecture."""
        return self.metadata.get(key.replace("{arch}", self.architecture), default)

    def tensors(self) -> Iterator[ReaderTensor]:
        """The tensors of all parts."""
        for reader in self.readers:
            yield from reader.tensors


def open_gguf(path: Path) -> GGUFFile:
    """Read the header of a file, and of all its parts when it is split.

    Raises FailedPrecondition, in one line, for what is no GGUF file of a whole decoder.
    """
    readers = [_open(path)]
    count = int(_value(readers[0], "split.count") or 1)
    if count > 1:
        readers = [_open(part) for part in _parts(path, count)]
    metadata = _metadata(readers[0], path)
    source = GGUFFile(path, metadata, tuple(readers))
    _refuse_other_kinds(source)
    _refuse_missing_tensors(source)
    return source


def _open(path: Path) -> GGUFReader:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != b"GGUF":
        raise FailedPrecondition(f"{path} is no GGUF file")
    version = int.from_bytes(head[4:], "little")
    if version not in VERSIONS:
        swapped = int.from_bytes(head[4:], "big") in VERSIONS
        kind = "is big-endian" if swapped else f"has GGUF version {version}"
        raise FailedPrecondition(f"{path} {kind}; versions 2 and 3, little-endian, are read")
    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        # the reader maps the file and runs past its end; an unknown type is a ValueError too
        reason = str(error) if "is not a valid" in str(error) else "it is truncated or damaged"
        raise FailedPrecondition(f"{path} cannot be read as GGUF: {reason}") from error


def _metadata(reader: GGUFReader, path: Path) -> dict[str, Any]:
    try:
        return {key: field.contents() for key, field in reader.fields.items()}
    except UnicodeDecodeError as error:
        raise FailedPrecondition(f"{path} has metadata that is no UTF-8") from error


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.fields.get(key)
    return None if field is None else field.contents()


def _parts(path: Path, count: int) -> list[Path]:
    """The files of a split model, any of which may have been given."""
    match = _PART.fullmatch(path.name)
    if match is None:
        raise FailedPrecondition(
            f"{path} is one of {count} parts, so it must be named as it was split: "
            f"NAME-00001-of-{count:05}.gguf"
        )
    parts = [path.with_name(f"{match[1]}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise FailedPrecondition(f"{path} is one of {count} parts; missing: {', '.join(missing)}")
    return parts


def _refuse_other_kinds(source: GGUFFile) -> None:
    kind = source.metadata.get("general.type", "model")
    architecture = source.metadata.get("general.architecture")
    if kind != "model" or architecture == "clip":
        shown = kind if kind != "model" else "mmproj"
        raise FailedPrecondition(f"{source.path} holds {shown!r}, not a whole model")
    if not isinstance(architecture, str):
        raise FailedPrecondition(f"{source.path} does not say general.architecture")


def _refuse_missing_tensors(source: GGUFFile) -> None:
    """A split file says how many tensors its parts have together."""
    expected = source.metadata.get("split.tensors.count")
    found = sum(len(reader.tensors) for reader in source.readers)
    if expected is not None and int(expected) != found:
        raise FailedPrecondition(f"{source.path} has {found} tensors of {expected} in its parts")
