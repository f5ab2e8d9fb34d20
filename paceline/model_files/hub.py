"""Models of the Hugging Face hub: fetched whole and checked, by its own library and settings."""

import contextlib
import errno
import functools
import importlib.util
import io
import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from paceline.errors import (
    FailedPrecondition,
    Internal,
    NotFound,
    PacelineError,
    ResourceExhausted,
    Unavailable,
    in_a_line,
    listed,
)
from paceline.model_files.config import check_config, without_config
from paceline.model_files.contradictions import check_config_fits
from paceline.model_files.gguf_header import PART
from paceline.model_files.json_files import check_json_files
from paceline.model_files.names import HubName
from paceline.model_files.room import check_room
from paceline.model_files.weight_files import is_weights, without_weights

Tell = Callable[[int], None]
_MOST_REASON = 120


def cached(name: HubName) -> Path | None:
    """Where the hub's cache has a folder or file; it may not be whole, nor a file be there."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.id.replace('/', '--')}"
    ref = folder / "refs" / (name.revision or constants.DEFAULT_REVISION)
    commit = ref.read_text("utf-8").strip() if ref.is_file() else name.revision
    snapshot = folder / "snapshots" / (commit or "")
    return snapshot / (name.file or "") if commit and snapshot.is_dir() else None


def fetch(name: HubName, started: Tell, advance: Tell, *, any_weights: bool = False) -> Path:
    """Bring a folder or .gguf file up to date; what is here already is not fetched again.

    started: told how many bytes come. advance: told of some that came, from several threads.
    Raises NotFound, FailedPrecondition, ResourceExhausted or Unavailable, with what to do.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        what = "the hub needs the engine extra, and huggingface_hub is not installed"
        raise FailedPrecondition(f"{what}; run: pip install 'paceline[engine]'")
    from huggingface_hub import constants, logging

    logging.set_verbosity(logging.log_levels["error"])  # of what fails for good, the error tells
    with _explained(name, constants.ENDPOINT):
        return _fetch(name, Path(constants.HF_HUB_CACHE), started, advance, any_weights=any_weights)


def _fetch(name: HubName, cache: Path, started: Tell, advance: Tell, *, any_weights: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(name.id, revision=name.revision, files_metadata=True)
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    texts, weights = _wanted(name, set(sizes))
    missing = sum(sizes[one] for one in texts + weights if not _is_here(name, one, info.sha))
    check_room(cache, missing, name.id, "HF_HOME")
    started(missing)
    get = functools.partial(
        snapshot_download, name.id, revision=name.revision, tqdm_class=_bar(advance)
    )
    if texts:
        folder = Path(get(allow_patterns=texts))
        check_config(folder, any_weights=any_weights)  # before what takes long
        check_json_files(folder)
        if not any_weights:
            check_config_fits(folder, {})
    folder = Path(get(allow_patterns=weights))
    if missing:
        _check_hashes(name, info.sha, folder)
    return folder / (name.file or "")


def _wanted(name: HubName, names: set[str]) -> tuple[list[str], list[str]]:
    """The files to fetch: texts, then weights. Refuses a repository that has no such model."""
    if name.file:
        return [], _parts(name, names)
    what = "" if "config.json" in names else without_config(names)
    if what := what or without_weights(names, name.id):
        raise FailedPrecondition(f"{name.id} on the hub {what}")
    weights = {*filter(is_weights, names)}
    return [*filter(_is_text, names - weights)], [*weights]


def _parts(name: HubName, names: set[str]) -> list[str]:
    """A .gguf file, or all parts of the split model it belongs to."""
    file = name.file or ""
    if file not in names:
        ggufs = listed(one for one in names if one.endswith(".gguf"))
        raise NotFound(f"{name.id} on the hub has no {file}; of .gguf files it has: {ggufs}")
    match = PART.fullmatch(file)
    if match is None:
        return [file]
    return [f"{match[1]}-{n:05}-of-{match[3]}.gguf" for n in range(1, int(match[3]) + 1)]


def _is_text(name: str) -> bool:
    """Configs, tokenizers and templates, in the folder itself or that of templates."""
    folder, _, last = name.rpartition("/")
    return folder in {"", "additional_chat_templates"} and last.endswith(
        (".json", ".jinja", ".txt", ".model", ".tiktoken")
    )


def _is_here(name: HubName, file: str, commit: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name.id, file, revision=commit), str)


def _check_hashes(name: HubName, commit: str | None, folder: Path) -> None:
    """Compare what came with the hashes that the hub has; what differs is deleted."""
    from huggingface_hub import HfApi

    found = HfApi().verify_repo_checksums(name.id, revision=commit)
    for one in found.mismatches:
        path = folder / one["path"]
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    if found.mismatches:
        one = found.mismatches[0]
        raise Internal(
            f"{name.id}/{one['path']} came with {one['algorithm']} {one['actual']} instead of "
            f"{one['expected']}; it is deleted, pull it again"
        )


def _bar(advance: Tell) -> type[Any]:
    """What the library takes for its progress bar; it draws nothing, and tells of bytes written."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            said = str(more.get("desc", ""))
            self._counts = more.get("unit") == "B" and not said.startswith("Downloading")
            super().__init__(*arguments, **{**more, "disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> Any:
            if self._counts:
                advance(int(n or 0))
            return super().update(n)

    return Bar


@contextlib.contextmanager
def _explained(name: HubName, endpoint: str) -> Iterator[None]:
    """Say in a line what the hub refuses, and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except PacelineError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise Unavailable(
            f"the hub is not asked for {name.id}, as HF_HUB_OFFLINE is set: pull it where there is "
            "a network, or unset HF_HUB_OFFLINE"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(name, endpoint, error) from error
    except Exception as error:
        raise _unreachable(name.id, endpoint, error) from error


def _refused(name: HubName, endpoint: str, error: Any) -> PacelineError:
    """What an answer of the hub means."""
    from huggingface_hub import errors

    hub_id, revision = name.id, name.revision
    page, status = f"{endpoint}/{hub_id}", error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        terms = f"{hub_id} is gated: accept its terms at {page}"
        return FailedPrecondition(f"{terms}, then {_token('of that account')}")
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{hub_id} has no revision {revision}; {page}/tree/main has what there is")
    if isinstance(error, errors.RepositoryNotFoundError) or status in {401, 403, 404}:
        what = f"{endpoint} has no model {hub_id}, or does not show it (status {status})"
        return NotFound(f"{what}: mind the spelling, or {_token('that may read it')}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        what = f"{endpoint} takes no more requests for now (status {status})"
        return Unavailable(f"{what}; pull {hub_id} again later, or {_token('that may ask more')}")
    return Unavailable(f"{endpoint} fails at {hub_id} (status {status}); pull it again later")


def _unreachable(model: str, endpoint: str, error: BaseException) -> PacelineError:
    if getattr(error, "errno", None) == errno.ENOSPC:
        return ResourceExhausted(
            f"the disk is full: {model} has not all come; make room, or name a folder on another "
            "disk with HF_HOME",
            retry_after=None,
        )
    while error.__cause__:
        error = error.__cause__
    return Unavailable(
        f"{endpoint} does not give {model}: {in_a_line(error)[:_MOST_REASON]}. Pull it again "
        "once it does: what has come stays. HF_ENDPOINT names a mirror, and a folder or a "
        ".gguf file needs no hub"
    )


def _token(which: str) -> str:
    """What to do about a token."""
    return f"set HF_TOKEN to {'another' if os.environ.get('HF_TOKEN') else 'a token'} {which}"
