"""What servers of this machine log, as lines for people or as JSON."""

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from paceline import log
from paceline_tools.terminal import plain

Form = Literal["console", "json", "none"]
LOADING = "loading"
"""The event that tells how far a model is."""
_COLORS = {"target": "cyan", "draft": "magenta", "orchestrator": "green"}
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
_NOT_SHOWN = {"event", "level", "logger", "timestamp", "exception", "stack"}
_SAID_AGAIN = {"listening", "stopped"}
"""Events that the command tells in words of its own, for people."""
_AT_START = {"not ready"}
"""Events that are no news before the servers are ready."""
_OF_STREAMS = frozenset({"stream paced", "stream finished"})
"""Events of each stream: noise on a terminal unless a log level is asked for."""
_INFORMATION = re.compile(r"I\d{4} \d\d:\d\d:\d\d")
"""How lines of gRPC begin that report no fault, as of a connection that was closed."""
_SAID_ONCE = "unknown variable"
"""An event that it tells for all."""


class ServerLog:
    """Where lines of servers go, and what the command says itself. form: none shows neither."""

    def __init__(self, console: Console, form: Form, *, quiet: bool = False) -> None:
        """Lines go to standard error, or where `console` writes.

        quiet: for people without those of each stream.
        """
        self.form = form
        self._hidden = _OF_STREAMS if quiet else frozenset[str]()
        self.console = console
        self.addresses: dict[str, str] = {}
        self.serving = False
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}", markup=False),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str, *, style: str = "", level: str = "info", whole: bool = False) -> None:
        """A line of the command itself. whole: it is to be copied, and never broken."""
        if self.form == "json":
            self._write(log.line(text, level, server="up"))
        elif self.form == "console":
            self.console.print(plain(text, style), soft_wrap=whole)

    def server_line(self, server: str, line: str) -> None:
        """A line of a server, as it was printed."""
        event = parsed(line)
        if event.get("event") == _SAID_ONCE:
            return
        if self.form == "json":
            self._write(json.dumps({"server": server, **event}) + "\n")
        elif self.form == "console":
            self._show(server, event)

    def _write(self, line: str) -> None:
        with contextlib.suppress(ValueError):
            sys.stderr.write(line)
            sys.stderr.flush()

    def _show(self, server: str, event: Mapping[str, Any]) -> None:
        name = str(event.get("event", ""))
        if name == LOADING and self.console.is_terminal:
            self._advance(server, event)
            return
        if name == "printed" and _INFORMATION.match(str(event.get("text", ""))):
            return
        self.finish(server)
        if name not in self._hidden | (_SAID_AGAIN if self.serving else _SAID_AGAIN | _AT_START):
            self.console.print(self._row(server, event))

    def _row(self, server: str, event: Mapping[str, Any]) -> Table:
        row = Table.grid(padding=(0, 1))
        for _ in range(2):
            row.add_column(no_wrap=True)
        row.add_column(overflow="fold")
        color = _COLORS.get(server.partition(" ")[0], "")
        what = Text()
        style = _LEVELS.get(str(event.get("level")), "bold")
        what.append_text(plain(str(event.get("event", "")), style))
        for name, value in event.items():
            if name not in _NOT_SHOWN and value not in (None, ""):
                what.append(f"  {name}=", "dim")
                what.append_text(plain(self._value(value)))
        row.add_row(Text(_clock(event), style="dim"), plain(f"{server:<12}", color), what)
        return row

    def _value(self, value: object) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        for address, name in self.addresses.items():
            text = text.replace(address, name)
        return text

    def _advance(self, server: str, event: Mapping[str, Any]) -> None:
        if server not in self._tasks:
            self._tasks[server] = self._progress.add_task(server, total=None, done="")
        done, total = event.get("done"), event.get("total")
        self._progress.update(
            self._tasks[server],
            description=f"{server:<12} {event.get('step', '')}",
            completed=done or 0,
            total=total,
            done="" if done is None else _amount(done, total, str(event.get("unit", ""))),
        )
        self._progress.start()
        self._progress.refresh()

    def finish(self, server: str) -> None:
        """It loads no more."""
        task = self._tasks.pop(server, None)
        if task is not None:
            self._progress.remove_task(task)
            if not self._tasks:
                self._progress.stop()

    def close(self) -> None:
        """Leave the terminal as it was."""
        for server in list(self._tasks):
            self.finish(server)


def parsed(line: str) -> dict[str, Any]:
    """A line of a server's log; one that is no JSON is what was printed."""
    with contextlib.suppress(ValueError):
        if isinstance(event := json.loads(line), dict):
            return event
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"event": "printed", "text": line, "level": "warning", "timestamp": now}


def _clock(event: Mapping[str, Any]) -> str:
    """The time of an event, by the clock on the wall."""
    try:
        when = datetime.fromisoformat(str(event.get("timestamp")))
    except ValueError:
        when = datetime.now(UTC)
    return when.astimezone().strftime("%H:%M:%S")


def _amount(done: int, total: object, unit: str) -> str:
    """How much is done, bytes in units for people."""
    if unit == "bytes" and isinstance(total, int):
        return f"{done / 1e9:.2f} of {total / 1e9:.2f} GB"
    return f"{done} of {total} {unit}"
