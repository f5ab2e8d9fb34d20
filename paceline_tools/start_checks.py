"""What can be known to be wrong before servers are started: in milliseconds, and without torch."""

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from paceline.catalog import home, is_model
from paceline.engine.simulated import PREFIX, SimulatedModel, is_simulated
from paceline.errors import (
    BAD_INPUT,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PacelineError,
    Unavailable,
    shown,
)
from paceline.model_files.check import check_model
from paceline.model_files.converted import converted_folder
from paceline.model_files.gguf_header import bf16_bytes
from paceline.model_files.room import check_room
from paceline.model_files.tokenizers import TOKENIZER, has_tokenizer
from paceline.nearest import nearest
from paceline.ports import check_port
from paceline_tools.listener import listener

_HUB_FOLDERS = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


class Mistakes:
    """What is wrong, all of it, before it is raised."""

    def __init__(self) -> None:
        """None yet."""
        self._found: list[PacelineError] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is raised, and go on behind the block."""
        try:
            yield
        except PacelineError as error:
            self._found.append(error)

    def tell(self) -> None:
        """Raise what was noted: a line for each mistake, as bad input if any of them is."""
        if not self._found:
            return
        bad = [one for one in self._found if isinstance(one, BAD_INPUT)]
        if len(self._found) == 1:
            raise self._found[0]
        lines = "\n".join(dict.fromkeys(map(str, self._found)))
        raise (InvalidArgument if bad else Unavailable)(lines) from None


def check_serving(model: str, others: Iterable[str] = (), *, any_weights: bool = False) -> None:
    """Raise what is wrong with a model that cannot be served; see check_model.

    others: words that could stand in its place, or before a colon and it: one may be misspelt.
    any_weights: as of check_model.
    """
    if is_simulated(model):
        SimulatedModel.parse(model)
        return
    try:
        _check_files(model, any_weights=any_weights)
    except NotFound as error:
        word, colon, rest = model.partition(":")
        if near := nearest(word, (*others, PREFIX)):
            meant = f"did you mean {near}{colon}{rest}?"
            raise NotFound(f"no model is called {shown(model)}; {meant}") from error
        raise


def without_text(model: str, *, any_weights: bool = False) -> str:
    """What a model without a tokenizer cannot do; empty for others, and for what is not here."""
    folder = None if is_simulated(model) else check_model(model, any_weights=any_weights)
    if folder is None or not folder.is_dir() or has_tokenizer(folder):
        return ""
    return f"{model} has no {TOKENIZER}: it takes and gives token ids, and no text"


def _check_files(model: str, *, any_weights: bool) -> None:
    found = check_model(model, any_weights=any_weights)
    if importlib.util.find_spec("torch") is None:
        what = "models need the engine extra, and torch is not installed"
        raise FailedPrecondition(f"{what}; run: pip install 'paceline[engine]'")
    if found is None:
        _check_hub_cache(model)
    elif found.is_file():
        _check_room(found)


def _check_hub_cache(hub_id: str) -> None:
    """Raise FailedPrecondition where a model that is not here yet could not be kept."""
    hub = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "hub"
    named = [os.environ[name] for name in _HUB_FOLDERS if os.environ.get(name)]
    folder = Path(named[0]) if named else hub
    if not (folder / f"models--{hub_id.partition('@')[0].replace('/', '--')}").is_dir():
        check_writable(folder, f"{hub_id} is downloaded", "HF_HOME")


def _check_room(gguf: Path) -> None:
    """Raise FailedPrecondition or ResourceExhausted where what is made of it cannot be kept."""
    folder = converted_folder(gguf)
    if is_model(folder):
        return
    check_writable(folder.parent, f"{gguf.name} is converted", "PACELINE_HOME")
    check_room(folder, bf16_bytes(gguf), str(gguf), "PACELINE_HOME")


def check_writable(folder: Path, what: str, variable: str) -> None:
    """Raise FailedPrecondition where nothing can be made in `folder`, which need not be there."""
    found = _existing(folder)
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise FailedPrecondition(
            f"{what} into {folder}, and {found} cannot be written to; name another folder by "
            f"{variable}"
        )


def _existing(folder: Path) -> Path:
    """The nearest of it and its parents that is there."""
    there = (one for one in (folder, *folder.absolute().parents) if one.exists())
    return next(there, folder)


def check_ports(host: str, ports: Mapping[int, str], setting: str) -> None:
    """Raise what hinders listening on any of these. ports: what each is for."""
    for port, purpose in ports.items():
        check_port(host, port, setting, purpose=purpose, who=listener)


def _is_made(folder: Path) -> bool:
    """Whether it is there now, and something can be put into it."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.is_dir() and os.access(folder, os.W_OK)


def check_home(*, writable: bool = False) -> None:
    """Raise FailedPrecondition where the folder of models is none, or cannot be read, or written.

    It need not be there yet; writable: then it is made.
    """
    found = _existing(home())
    usable = found.is_dir() and os.access(found, os.R_OK | os.X_OK)
    if not usable or (writable and not _is_made(home())):
        limit = f"a folder that can be {'written to' if writable else 'read'}"
        given = os.environ.get("PACELINE_HOME")
        where = (
            f"PACELINE_HOME is {shown(Path(given))}" if given else f"models are kept in {home()}"
        )
        beyond = f", and {found} is none" if found != home() and not found.is_dir() else ""
        raise FailedPrecondition(f"{where}; it must be {limit}{beyond}")
