"""Which folder a model's name stands for, made where it is not there yet."""

from collections.abc import Callable
from pathlib import Path

import structlog

from paceline.catalog import CATALOG, is_current, is_model, model_folder
from paceline.engine.load_progress import counted
from paceline.errors import FailedPrecondition, in_a_line
from paceline.model_files.check import check_model, check_path
from paceline.model_files.converted import converted_folder
from paceline.model_files.gguf_header import bf16_bytes
from paceline.model_files.hub import fetch
from paceline.model_files.names import find
from paceline.model_files.room import check_room

_log = structlog.get_logger(__name__)
Say = Callable[[str], None]


def repair(name: str) -> None:
    """Repair the folder of a pulled model that an older version converted; its weights stay."""
    folder = model_folder(name)
    if is_current(folder) or not (folder / "tokenizer.json").is_file():
        return
    from paceline.engine.torch.gguf.repair import repair_folder  # torch, needed here only

    try:
        repair_folder(folder, CATALOG[name].pre)
    except OSError as error:
        _log.warning(
            "A folder of an older version cannot be repaired, so its tokenizer is not the model's",
            folder=str(folder),
            error=error.strerror,
        )
    except Exception as error:
        raise FailedPrecondition(
            f"{folder} is of an older version and cannot be repaired: {in_a_line(error)}. "
            f"Delete it, then run: paceline pull {name}"
        ) from error


def resolve_model(model: str, say: Say = lambda _: None, *, any_weights: bool = False) -> Path:
    """The folder that `model` stands for: a pulled name, a folder, a .gguf file or a hub id.

    A .gguf file is converted once, telling `say` each phase; of the hub what is not here whole is
    fetched. any_weights: as of check_config. Raises NotFound or FailedPrecondition saying what is
    wrong with it, and what to do.
    """
    path = check_model(model, any_weights=any_weights) or _fetched(model, any_weights=any_weights)
    if model in CATALOG:
        repair(model)
    return path if path.is_dir() else _converted(path, say)


def convert(gguf: Path, folder: Path, say: Say = lambda _: None) -> None:
    """Make `folder` of a GGUF file, telling `say` each phase. Needs the engine extra."""
    check_room(folder, bf16_bytes(gguf), str(gguf), "PACELINE_HOME")
    try:
        from paceline.engine.torch.gguf.convert import convert_gguf  # torch, needed here only
    except ModuleNotFoundError as error:
        what = f"converting {gguf} needs the engine extra, and {error.name} is not installed"
        raise FailedPrecondition(f"{what}; run: pip install 'paceline[engine]'") from error

    convert_gguf(gguf, folder, say)


def _fetched(model: str, *, any_weights: bool) -> Path:
    name = find(model)
    if isinstance(name, Path):  # it has come meanwhile
        return name

    steps: list[Callable[[int], None]] = []

    def started(count: int) -> None:
        if count:
            steps.append(counted(f"fetching {model}", count, "bytes"))

    def advanced(count: int) -> None:
        if steps:
            steps[0](count)

    path = fetch(name, started, advanced, any_weights=any_weights)
    check_path(path, any_weights=any_weights)
    return path


def _converted(gguf: Path, say: Say) -> Path:
    """The folder made of a GGUF file, made now if the file is new or has changed."""
    folder = converted_folder(gguf)
    if not is_model(folder):
        convert(gguf, folder, say)
    return folder
