"""What the name of a model stands for."""

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from paceline.catalog import CATALOG, home, is_model, model_folder
from paceline.errors import NotFound, shown

_HUB = re.compile(
    r"(?P<id>\w[\w.-]*/\w[\w.-]*)(/(?P<file>[\w./-]+\.gguf))?(@(?P<revision>[\w./-]+))?", re.ASCII
)
_PATH = re.compile(r"[.~]{0,2}/|[^/]*/?[^/]*\.(gguf|safetensors)$")
"""What can only be meant as a path: of the hub's files a repository is named before."""


class HubName(NamedTuple):
    """What is named on the hub: owner/name, of that a .gguf file perhaps, and a revision."""

    id: str
    file: str | None
    revision: str | None


def hub_name(model: str) -> HubName | None:
    """The parts of owner/name, owner/name/FILE.gguf, and either with @REVISION behind it."""
    match = None if _PATH.match(model) else _HUB.fullmatch(model)
    return HubName(match["id"], match["file"], match["revision"]) if match else None


def find(model: str) -> Path | HubName:
    """The folder or file that `model` stands for, or what it is called on the hub.

    Raises NotFound for what is none of all that, with what may have been meant.
    """
    if model in CATALOG:
        return _pulled(model)
    path = Path(model).expanduser()
    if model and path.exists():
        return path
    name = hub_name(model)
    # A file in a folder that is here was meant to be there too.
    if name and not (name.file and path.parents[-2].is_dir()):
        return name
    if _PATH.match(model) or "/" in model:
        raise NotFound(f"{shown(model)} does not exist{_nearest_path(path)}")
    raise NotFound(f"no model is called {shown(model)}{_nearest_name(model)}")


def _pulled(name: str) -> Path:
    folder = model_folder(name)
    if not is_model(folder):
        raise NotFound(f"{name} is not here yet{_looked_in()}; run: paceline pull {name}")
    return folder


def _looked_in() -> str:
    """The folder of models where the environment names it: that may be the wrong one."""
    if not os.environ.get("PACELINE_HOME"):
        return ""
    missing = "" if home().is_dir() else ", which does not exist"
    return f" (PACELINE_HOME is {home()}{missing})"


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
