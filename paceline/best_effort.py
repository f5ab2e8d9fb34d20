"""What is done for those who watch: metrics, logs, callbacks that nobody's work depends on."""

import contextlib
from collections.abc import Iterator

import structlog

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[None]:
    """A bug in here is logged, where that works, and harms nobody else. `what` went wrong."""
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception):
            _log.exception("failed, and went on without", what=what)
