"""Spans. Where nobody records them they do nothing, and OpenTelemetry is never imported."""

import contextlib
import contextvars
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, Self

from paceline.best_effort import best_effort
from paceline.errors import PacelineError
from paceline.tracing.context import Metadata, TraceContext, read

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]

FIRST_STEPS = 8
"""So many steps of a session have spans of their own; of all of them a session's span has sums."""
TRACED = ("/Generate", "/Verify", "/Draft")
"""Ends of the methods whose calls are spans: one a request, one a session on each server."""


class TraceSpan:
    """A span that nobody records: it hands its caller's context on."""

    recording = False

    def __init__(self, context: TraceContext | None = None) -> None:
        """`context` is what calls made within it bring along."""
        self.context = context

    @property
    def metadata(self) -> Metadata:
        """What calls made within it bring along."""
        return self.context.metadata if self.context else ()

    @property
    def log_fields(self) -> dict[str, str]:
        """What log lines say of it: the trace alone, where the span is somebody else's."""
        return {"trace_id": self.context.trace_id} if self.context else {}

    def begin(
        self, name: str, attributes: Attributes | None = None, *, calls: bool = False
    ) -> Self:
        """A span within it. calls: of a call to another process."""
        return self

    def rename(self, name: str) -> None:
        """Call it so from now on."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def event(self, name: str) -> None:
        """Something happened, now."""

    def step(self, name: str, start: float, end: float, attributes: Attributes) -> None:
        """A span within it that is over; seconds of the monotonic clock."""

    def fail(self, kind: str, reason: str = "") -> None:
        """It went wrong: with an error of this kind. The first that is told stays."""

    def end(self) -> None:
        """It is over."""


class Recorder(Protocol):
    """What makes spans of calls that come in."""

    def serve(self, method: str, context: TraceContext | None) -> TraceSpan:
        """The span of a call of the method, within its caller's."""


_recorder: Recorder | None = None
_current: contextvars.ContextVar[TraceSpan] = contextvars.ContextVar("span", default=TraceSpan())  # noqa: B039


def record(recorder: Recorder | None) -> None:
    """Have calls recorded from now on; None: no more."""
    global _recorder  # noqa: PLW0603  a process has one
    _recorder = recorder


def current() -> TraceSpan:
    """The one being served."""
    return _current.get()


def serve(method: str, metadata: Iterable[tuple[str, str | bytes]]) -> TraceSpan:
    """The span of a call that came in, the current one from now on. Whoever calls ends it."""
    context = read(metadata)
    span = TraceSpan(context)
    if _recorder is not None and method.endswith(TRACED):
        with best_effort("traces"):
            span = _recorder.serve(method, context)
    _current.set(span)
    return span


@contextlib.contextmanager
def within(name: str) -> Iterator[TraceSpan]:
    """A span within the current one, and the current one while the context lasts."""
    span = _current.get().begin(name)
    token = _current.set(span)
    try:
        yield span
    except BaseException as error:
        fail_with(span, error)
        raise
    finally:
        _current.reset(token)
        span.end()


def fail_with(span: TraceSpan, error: BaseException | None) -> None:
    """Note the error that ended a span; to be cancelled is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, PacelineError):
        span.fail(type(error).__name__, str(error))
    elif isinstance(error, Exception):
        span.fail(type(error).__name__)  # what it says may quote what a client sent
