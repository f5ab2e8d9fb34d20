"""The request id: one name for a request in every log, handed on from hop to hop."""

import contextvars
import uuid

from paceline.errors import InvalidArgument

HEADER = "x-request-id"
MAX_LENGTH = 128

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


def adopt(metadata: dict[str, str | bytes]) -> str:
    """Make the caller's id, or a new one, the current one; InvalidArgument for a bad one."""
    given = metadata.get(HEADER) or uuid.uuid4().hex
    if not isinstance(given, str) or len(given) > MAX_LENGTH or not given.isprintable():
        limit = f"at most {MAX_LENGTH} printable characters"
        raise InvalidArgument.of(f"metadata {HEADER}", given, limit)
    _current.set(given)
    return given


def current_request_id() -> str:
    """The id of the request being served; empty outside of one."""
    return _current.get()


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that hands the id on."""
    request_id = current_request_id()
    return ((HEADER, request_id),) if request_id else ()
