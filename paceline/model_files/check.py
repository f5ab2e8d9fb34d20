"""Whether a model can be served, as far as its files say without being loaded."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from paceline.catalog import CATALOG
from paceline.errors import FailedPrecondition, PacelineError
from paceline.model_files.config import check_config
from paceline.model_files.contradictions import DoesNotFit, check_config_fits
from paceline.model_files.gguf_header import check_gguf
from paceline.model_files.hub import cached
from paceline.model_files.json_files import check_json_files
from paceline.model_files.names import HubName, find
from paceline.model_files.weight_files import check_weight_files


def check_model(model: str, *, any_weights: bool = False) -> Path | None:
    """The folder or .gguf file of what `model` names; None for a hub id that must be fetched.

    any_weights: as of check_config.
    Takes milliseconds and imports no torch. Raises NotFound or FailedPrecondition, in one line,
    saying what is wrong and what to do.
    """
    found = find(model)
    if isinstance(found, HubName):
        return _whole_in_cache(found, any_weights=any_weights)
    try:
        check_path(found, any_weights=any_weights)
    except FailedPrecondition as error:
        if model not in CATALOG:
            raise
        raise FailedPrecondition(
            f"{error}. Delete {found}, then run: paceline pull {model}"
        ) from error
    return found


def _whole_in_cache(name: HubName, *, any_weights: bool) -> Path | None:
    """What is named on the hub, if it is here whole; its config is checked in any case."""
    path = cached(name)
    if path is None or not path.exists():
        return None
    with _readable():
        if (path / "config.json").exists():
            check_config(path, any_weights=any_weights)
    try:
        check_path(path, any_weights=any_weights)
    except DoesNotFit:  # to fetch it again would bring the same
        raise
    except FailedPrecondition:
        return None
    return path


def check_path(path: Path, *, any_weights: bool = False) -> None:
    """Check a model folder or a .gguf file; raises FailedPrecondition."""
    with _readable():
        if path.is_dir():
            check_folder(path, any_weights=any_weights)
        else:
            check_gguf(path)


def check_folder(folder: Path, *, any_weights: bool = False) -> None:
    """Check a model folder: its kind, its JSON files, its weights, and that they fit together.

    any_weights: as of check_config; whether they fit is left to that engine too.
    """
    check_config(folder, any_weights=any_weights)
    check_json_files(folder)
    weights = check_weight_files(folder)
    if not any_weights:
        check_config_fits(folder, weights)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Say in a line what may not be read."""
    try:
        yield
    except PacelineError:
        raise
    except OSError as error:
        raise FailedPrecondition(f"{error.filename} cannot be read: {error.strerror}") from error
