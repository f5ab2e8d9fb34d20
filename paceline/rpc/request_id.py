"""The request id: one name for a request in every log, handed on from hop to hop."""

import contextvars
import uuid

from paceline.errors import InvalidArgument

HEADER = "x-request-id"
MAX_LENGTH = 128

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


def adopt(given: str | bytes) -> str:
    """Make the caller's id, or a new one, the current one; InvalidArgument for a bad one."""
    request_id = checked(given or uuid.uuid4().hex)
    _current.set(request_id)
    return request_id


def checked(given: str | bytes) -> str:
    """An id that logs and metadata can carry; InvalidArgument for another."""
    text = given if isinstance(given, str) else ""
    if text and text.isascii() and text.isprintable() and len(text) <= MAX_LENGTH:
        return text
    limit = f"at most {MAX_LENGTH} printable ASCII characters"
    raise InvalidArgument.of(f"metadata {HEADER}", given, limit)


def current_request_id() -> str:
    """The id of the request being served; empty outside of one."""
    return _current.get()


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that hands the id on."""
    request_id = current_request_id()
    return ((HEADER, request_id),) if request_id else ()
