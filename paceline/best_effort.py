"""What is done for those who watch: metrics, logs, callbacks that nobody's work depends on."""

import contextlib
from types import TracebackType

import structlog

_log = structlog.get_logger(__name__)


class _BestEffort(contextlib.AbstractContextManager[None, bool | None]):
    """It is entered for each verdict: a generator would take several times as long."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if not isinstance(error, Exception):
            return None
        with contextlib.suppress(Exception):
            _log.error("failed, and went on without", what=self._what, exc_info=error)
        return True


def best_effort(what: str) -> contextlib.AbstractContextManager[None, bool | None]:
    """A bug in here is logged, where that works, and harms nobody else. `what` went wrong."""
    return _BestEffort(what)
