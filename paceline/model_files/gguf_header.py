"""The header of GGUF files, walked without building what it holds: whole, and of a model."""

import math
import mmap
import re
import struct
from pathlib import Path
from typing import Any

from paceline.errors import FailedPrecondition, listed
from paceline.model_files.gguf_metadata import Length, check_metadata_fits
from paceline.model_files.json_files import refuse_pointer

VERSIONS = (2, 3)
PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"} | {
    12: "d"
}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32
_MOST_DIMENSIONS = 8


def check_gguf(path: Path) -> None:
    """Raise FailedPrecondition for what is no GGUF file of a whole model, with all its parts."""
    header = _read(path)
    _refuse_other_kinds(path, header.metadata)
    count = int(header.metadata.get("split.count") or 1)
    parts = gguf_parts(path, count)
    headers = [header if part == path else _read(part) for part in parts]
    shapes = {name: shape for one in headers for name, shape in one.shapes.items()}
    check_metadata_fits(parts[0], headers[0].metadata, shapes)


def gguf_parts(path: Path, count: int) -> list[Path]:
    """The files of a model split into so many, any of which may have been given."""
    if count <= 1:
        return [path]
    match = PART.fullmatch(path.name)
    if match is None:
        raise FailedPrecondition(
            f"{path} is one of {count} parts, so it must be named as it was split: "
            f"NAME-00001-of-{count:05}.gguf"
        )
    parts = [path.with_name(f"{match[1]}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise FailedPrecondition(
            f"{path} is one of {count} parts; missing: {listed(missing)}; fetch what is missing"
        )
    return parts


def bf16_bytes(path: Path) -> int:
    """Bytes of all weights in bf16: what converting the file and its other parts takes."""
    header = _read(path)
    parts = gguf_parts(path, int(header.metadata.get("split.count") or 1))
    return 2 * sum(_read(part).weights for part in parts)


class _Header:
    """Reads on from a position. metadata: of an array its length. weights: numbers of all tensors.

    shapes: of all tensors, as the file has them: the width of a row first.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 8
        tensors, keys = self._take("QQ")
        self.metadata = {self._string(): self._value() for _ in range(keys)}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors = [self._tensor() for _ in range(tensors)]

    @property
    def weights(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    def end(self) -> int:
        """The size that the file must have at least."""
        alignment = int(self.metadata.get("general.alignment") or _ALIGNMENT)
        start = -(-self.at // alignment) * alignment
        return start + max((offset + size for offset, size in self.tensors), default=0)

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise struct.error

    def _string(self) -> str:
        [length] = self._take("Q")
        self._skip(length)
        return self._data[self.at - length : self.at].decode(errors="replace")

    def _value(self) -> Any:
        [kind] = self._take("I")
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._skip_array()
        return self._take(_SCALARS[kind])[0]

    def _skip_array(self) -> Length:
        kind, count = self._take("IQ")
        if kind != _STRING:
            self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
            return Length(count)
        at, unpack = self.at, struct.Struct("<Q").unpack_from
        for _ in range(count):  # a hundred thousand of them
            at += 8 + unpack(self._data, at)[0]
        self.at = at
        self._skip(0)
        return Length(count)

    def _tensor(self) -> tuple[int, int]:
        """Offset and size of a tensor's data."""
        name = self._string()
        [dimensions] = self._take("I")
        if dimensions > _MOST_DIMENSIONS:
            raise struct.error
        self.shapes[name] = shape = self._take("Q" * dimensions)
        kind, offset = self._take("IQ")
        return offset, _size(kind, math.prod(shape))


def _size(kind: int, count: int) -> int:
    """Bytes of a tensor; of a kind that the library does not know, one."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError:
        return 1
    return int(count // block * size)


def _read(path: Path) -> _Header:
    if path.stat().st_size < 24:
        raise FailedPrecondition(f"{path} is no GGUF file: it has {path.stat().st_size} bytes")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        _refuse_other_files(path, data[:100])
        try:
            header = _Header(data)
        except (struct.error, KeyError, OverflowError, MemoryError):
            raise FailedPrecondition(
                f"{path} cannot be read as GGUF: it is truncated or damaged; fetch it again"
            ) from None
        if len(data) < header.end():
            raise FailedPrecondition(
                f"{path} is truncated: it has {len(data)} bytes of {header.end()}; fetch it again"
            )
    return header


def _refuse_other_files(path: Path, head: bytes) -> None:
    refuse_pointer(path, head)
    if head[:4] != b"GGUF":
        folder = path.parent if (path.parent / "config.json").is_file() else None
        hint = f"give its folder, {folder}" if folder else "give a model folder or a .gguf file"
        raise FailedPrecondition(f"{path} is no GGUF file; {hint}")
    version = int.from_bytes(head[4:8], "little")
    if version not in VERSIONS:
        swapped = int.from_bytes(head[4:8], "big") in VERSIONS
        kind = "is big-endian" if swapped else f"has GGUF version {version}"
        raise FailedPrecondition(f"{path} {kind}; versions 2 and 3, little-endian, are read")


def _refuse_other_kinds(path: Path, metadata: dict[str, Any]) -> None:
    kind, architecture = metadata.get("general.type", "model"), metadata.get("general.architecture")
    if kind != "model" or architecture == "clip":
        shown = kind if kind != "model" else "mmproj"
        raise FailedPrecondition(
            f"{path} holds {shown!r}, not a whole model; give the model's own .gguf file"
        )
