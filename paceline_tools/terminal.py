"""What the command prints: text of models and users as it is, never as markup."""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from grpc import RpcError
from rich.console import Console
from rich.text import Text

from paceline.errors import BAD_INPUT, InvalidArgument, PacelineError

_KEPT = "\n\t"
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in _KEPT}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(128, 160), 65533)


class BadInput(InvalidArgument):
    """What was typed or piped in cannot be right."""


def is_bad_input(error: PacelineError | None) -> bool:
    """Whether it was found here: what a server found wrong comes from an answer of gRPC's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RpcError):
            return False
        found = found.__cause__
    return isinstance(error, BAD_INPUT)


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error. No emoji: `:x:` in a text is that text."""
    return Console(stderr=stderr, emoji=False)


def safe(text: str) -> str:
    """`text` without power over the terminal: its control characters as pictures of them."""
    return text.translate(_CONTROLS)


def plain(text: str, style: str = "") -> Text:
    """`text` to print, or for a cell: no markup in it, and no control characters."""
    return Text(safe(text), style=style)


def prepare_streams() -> None:
    """Have texts leave as UTF-8; a terminal that knows less shows question marks.

    Raises BadInput where there is no standard output: nothing would be seen of what was done.
    """
    if sys.stdout is None:
        raise BadInput("standard output is closed; give it a terminal, a file or /dev/null")
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is None:
            continue
        if stream.isatty():
            reconfigure(errors="replace")
        else:
            reconfigure(encoding="utf-8")


def check_outputs(paths: Mapping[str, Path | None]) -> None:
    """Say what cannot be written, by its flag, before the work and not behind it."""
    for flag, path in paths.items():
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidArgument.of(flag, str(path), "in a folder that exists")
        if path is not None and path.is_dir():
            raise InvalidArgument.of(flag, str(path), "a file, not a folder")


def flush(stream: IO[str] | None) -> None:
    """Write out what is buffered; what cannot be is forgotten, and the error raised."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        _forget(stream)
        raise


def _forget(stream: IO[str] | None) -> None:
    """Have the interpreter, which flushes once more when it ends, find nothing wrong."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)


def read_input() -> str:
    """Standard input to its end; raises BadInput when it is closed or no UTF-8."""
    if sys.stdin is None:
        raise BadInput("standard input is closed; give the prompt as an argument")
    data = getattr(sys.stdin, "buffer", None)
    if data is None:
        return sys.stdin.read()
    try:
        return bytes(data.read()).decode()
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise BadInput(f"standard input has {found}; it must be valid UTF-8") from None
