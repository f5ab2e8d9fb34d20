"""A module of ours in a process of its own: what it needs in memory goes with it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from paceline.errors import FailedPrecondition, last_words

PREPARING_SECONDS = 1800.0
"""At most, to quantize a draft and measure all engines."""
MEASURING_SECONDS = 400.0
"""At most, to measure one of them once: one that hangs leaves time for the others."""


def answer_of(module: str, *arguments: str, refused: str, seconds: float) -> Any:
    """The JSON that it prints last.

    Its standard input ends when this process does. Raises FailedPrecondition that begins with
    `refused` where it fails, or takes over `seconds`.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        with _open_until_done() as end:
            done = subprocess.run(
                command,
                stdin=end,
                check=False,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
    except subprocess.TimeoutExpired:
        raise FailedPrecondition(f"{refused}: it took over {seconds:g} s") from None
    if done.returncode:
        raise FailedPrecondition(f"{refused}: {last_words(done.stderr, done.returncode)}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _open_until_done() -> Iterator[int]:
    """The end of a pipe that whoever reads it finds closed once this process is gone."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)
