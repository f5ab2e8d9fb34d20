"""Logs: one JSON object a line on standard error, or lines for people; never a prompt or an output.

So of an exception only its type is logged, and where it was raised: what it says may quote what a
client sent, as may local variables. What may be said is a field of its own.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

MOST_CHARACTERS = 2_000
"""Of a value; what is behind them is cut off."""
MOST_ITEMS = 100
"""Of a list or mapping, and frames of a traceback."""
_DEPTH = 6
Form = Literal["auto", "json", "console"]
FORMS = "Form of the log lines; auto: console on a terminal, json elsewhere."

_log = structlog.get_logger(__name__)
_traced = ExceptionDictTransformer(show_locals=False, use_rich=False, max_frames=MOST_ITEMS // 2)


def form(asked: str, stream: TextIO | None = None) -> Literal["json", "console"]:
    """The form of lines on `stream`, standard error unless given, where `asked` may be "auto"."""
    if asked == "auto":
        stream = sys.stderr if stream is None else stream
        asked = "console" if stream is not None and stream.isatty() else "json"
    return "console" if asked == "console" else "json"


def has_colors(stream: TextIO | None) -> bool:
    """Only a terminal has, unless NO_COLOR is set (no-color.org)."""
    stream = sys.stderr if stream is None else stream
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def line(event: str, level: str, **fields: Any) -> str:
    """A line of the log as JSON, of a process that has not configured it yet."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({**fields, "event": event, "level": level, "timestamp": now}) + "\n"


def say(reasons: Iterable[str]) -> None:
    """Log, as JSON, why a process does not start."""
    sys.stderr.writelines(line("bad setting", "error", reason=reason) for reason in reasons)


def configure(level: str, asked: str, stream: TextIO | None = None) -> None:
    """Log from `level` up, as "json" or, for people, "console". The standard library's logs too.

    What would be printed of exceptions that nobody caught is logged as well. stream: where to,
    standard error unless given.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor] = [
        structlog.processors.ExceptionRenderer(places),
        structlog.processors.JSONRenderer(),
    ]
    if form(asked, stream) == "console":
        colors = has_colors(stream)
        renderer = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_print_places)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _cut_values,
                *renderer,
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    _log_what_nobody_caught()


def places(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """Types of an exception and of those behind it, with the places they came through."""
    return [_places(stack) for stack in _traced(exc_info)]


def _places(stack: Mapping[str, Any]) -> dict[str, Any]:
    frames = [f"{one['filename']}:{one['lineno']} {one['name']}" for one in stack["frames"]]
    found = {"type": stack["exc_type"], "is_cause": stack["is_cause"], "frames": frames}
    if parts := [[_places(one) for one in part] for part in stack["exceptions"]]:
        found["exceptions"] = parts
    return found


def _print_places(out: TextIO, exc_info: ExcInfo) -> None:
    """As places, for people."""
    for found in places(exc_info):
        out.write(f"{found['type']}\n")
        out.writelines(f"  {frame}\n" for frame in found["frames"])


def unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what an event loop was left with: an exception handler. Its own prints what it says."""
    error = context.get("exception")
    _log.error("failed, and nobody waited for it", exc_info=error if error is not None else False)


def _log_what_nobody_caught() -> None:
    """Warnings too; what one says can be read where it is given."""

    def log(error: BaseException | None, where: str) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return
        _log.critical("failed, and nobody caught it", where=where, exc_info=error)

    sys.excepthook = lambda _, error, __: log(error, "main")
    threading.excepthook = lambda found: log(
        found.exc_value, found.thread.name if found.thread else "thread"
    )
    sys.unraisablehook = lambda found: log(found.exc_value, "unraisable")
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _log.warning("a warning", kind=category.__name__, where=f"{filename}:{lineno}")


def adopt(library: str) -> None:
    """Have a library that prints its log itself log as we do."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True


class _Handler(logging.StreamHandler[TextIO]):
    """A line that cannot be written says so, and not what it would have said."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Called while the exception is handled."""
        kind = getattr(sys.exc_info()[0], "__name__", "")
        with contextlib.suppress(Exception):
            where = f"{record.pathname}:{record.lineno}"
            self.stream.write(line("a log line failed", "error", where=where, kind=kind))


def _cut_values(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    return {key: value if key == "exc_info" else _cut(value) for key, value in event.items()}


def _cut(value: Any, depth: int = _DEPTH) -> Any:
    """`value` with long parts cut. Of an object that is no plain value only the type is left."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | PurePath):
        text = str(value)
        return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
    if isinstance(value, Enum):
        return _cut(value.value)
    if depth and isinstance(value, Mapping):
        some = list(value.items())[:MOST_ITEMS]
        return {str(_cut(key, 0)): _cut(part, depth - 1) for key, part in some}
    if depth and isinstance(value, list | tuple):
        return [_cut(part, depth - 1) for part in value[:MOST_ITEMS]]
    return f"<{type(value).__name__}>"
