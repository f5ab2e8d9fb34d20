"""Who a call is from: the name of its token, of its certificate, or where it comes from."""

import contextvars
from dataclasses import dataclass

HEADER = "authorization"
"""Metadata that a caller shows its token in (RFC 6750)."""
UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may take; None: as much as there is."""

    streams: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """name: for logs and limits. proven: by a token or a certificate, not just by an address."""

    name: str = UNKNOWN
    proven: bool = False
    limits: Limits = Limits()


NOBODY = Caller()
_current: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller", default=NOBODY)


def current_caller() -> Caller:
    """Of the call being served; a nameless one outside of one."""
    return _current.get()


def adopt(caller: Caller) -> None:
    """Make it the current one."""
    _current.set(caller)
