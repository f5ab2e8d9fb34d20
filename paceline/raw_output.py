"""What libraries print past the log, as lines of JSON: gRPC's core, native code, faulthandler.

They write to the descriptors of standard output and error. Those become a pipe to a process of its
own, which makes JSON of each line, and is still there for the last words of one that crashes.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO, TextIO

MOST_BYTES = 8_000
"""Of a line; a longer one becomes several."""
LAST_SECONDS = 2.0
"""How long the last lines are waited for when the process ends."""

_wrappers: "list[subprocess.Popen[bytes]]" = []


def wrap() -> TextIO:
    """Have all that is printed become JSON on standard error; returns that, for the log itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    own = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    reading, writing = os.pipe()
    command = [sys.executable, "-I", "-S", __file__]
    wrapper = subprocess.Popen(command, stdin=reading, stdout=own.fileno())  # noqa: S603  this file
    os.close(reading)
    for number in (1, 2):
        os.dup2(writing, number)
    os.close(writing)
    _wrappers.append(wrapper)
    atexit.register(finish)
    return own


def finish() -> None:
    """Wait for the last lines, where this process has its output wrapped."""
    if not _wrappers:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        _wrappers.pop().wait(LAST_SECONDS)


def as_json(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Each line as a JSON object; those that are one stay as they are."""
    for raw in lines:
        text = raw.decode(errors="backslashreplace").strip()
        if _is_object(text):
            yield f"{text}\n".encode()
        elif text:
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            said = {"text": text, "event": "printed", "level": "warning", "timestamp": now}
            yield f"{json.dumps(said)}\n".encode()


def _is_object(text: str) -> bool:
    if not text.startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(MOST_BYTES):
        yield line


def main() -> None:
    """Copy standard input, until its last writer has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who is told to stop has more to say
    with contextlib.suppress(OSError):
        for line in as_json(_lines(sys.stdin.buffer)):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
