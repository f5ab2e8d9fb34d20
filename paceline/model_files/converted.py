"""Where a .gguf file's converted folder is, or will be."""

import hashlib
from pathlib import Path

from paceline.catalog import CONVERTER, model_folder
from paceline.model_files.gguf_header import PART


def converted_folder(gguf: Path) -> Path:
    """The folder that is made of a GGUF file: another one when the file changes."""
    states = [(part.name, part.stat()) for part in _parts(gguf)]
    files = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    key = f"{CONVERTER} {gguf.parent.resolve()} {files}"
    return model_folder(f"{gguf.stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}")


def _parts(gguf: Path) -> list[Path]:
    """The file, or all parts that are here of the split model it belongs to."""
    match = PART.fullmatch(gguf.name)
    if match is None:
        return [gguf]
    names = (f"{match[1]}-{n:05}-of-{match[3]}.gguf" for n in range(1, int(match[3]) + 1))
    return [path for name in names if (path := gguf.with_name(name)).is_file()]
