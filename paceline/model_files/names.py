"""What the name of a model stands for."""

import difflib
import re
from pathlib import Path

from paceline.catalog import CATALOG, is_model, model_folder
from paceline.errors import NotFound, shown

HUB_ID = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
"""owner/name, and after an @ a branch, a tag or a commit."""
_PATH = re.compile(r"[.~]{0,2}/|.*\.(gguf|safetensors)$")
"""What can only be meant as a path."""


def find(model: str) -> Path | None:
    """The folder or file that `model` stands for; None for a hub id, which may be anywhere.

    Raises NotFound for what is none of all that, with what may have been meant.
    """
    if model in CATALOG:
        return _pulled(model)
    path = Path(model).expanduser()
    if model and path.exists():
        return path
    if _PATH.match(model) is None and HUB_ID.fullmatch(model):
        return None
    if _PATH.match(model) or "/" in model:
        raise NotFound(f"{shown(model)} does not exist{_nearest_path(path)}")
    raise NotFound(f"no model is called {shown(model)}{_nearest_name(model)}")


def _pulled(name: str) -> Path:
    folder = model_folder(name)
    if not is_model(folder):
        raise NotFound(f"{name} is not here yet; run: paceline pull {name}")
    return folder


def _nearest_path(path: Path) -> str:
    """The entry beside it that is nearest, or the folder that is not there."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    names = sorted(one.name for one in path.parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else f"; {_forms()}"


def _nearest_name(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), CATALOG, n=1)
    if near:
        return f"; did you mean {near[0]}? A hub id has the form owner/name"
    return f"; {_forms()}"


def _forms() -> str:
    """What names a model."""
    names = ", ".join(CATALOG)
    return f"give a folder, a .gguf file, a hub id of the form owner/name, or one of {names}"
