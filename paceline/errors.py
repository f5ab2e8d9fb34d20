"""The one exception tree. paceline.rpc.status_codes maps it to gRPC status codes and back."""

import re
from collections.abc import Iterable
from pathlib import PurePath

SHOWN_CHARACTERS = 80
SHOWN_NAMES = 8
MAX_REASON = 300
"""Characters of what a library says that an error repeats."""


def shown(value: object) -> str:
    """`value` for a message: as Python writes it, cut where it is long; a path is shown whole."""
    if isinstance(value, PurePath):
        return repr(str(value))
    if isinstance(value, str | bytes):
        value = value[: SHOWN_CHARACTERS + 1]
    try:
        text = repr(value)
    except Exception:  # its class's own, which a message must outlive
        text = object.__repr__(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def listed(names: Iterable[str]) -> str:
    """Some names for a message, long ones cut, and how many more there are."""
    known = sorted(names)
    some = [name if len(name) <= SHOWN_CHARACTERS else shown(name) for name in known[:SHOWN_NAMES]]
    more = len(known) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "") or "none"


def last_words(said: str, code: int) -> str:
    """The last line that an ended process said, else its exit status."""
    return (said.strip().splitlines() or [f"it ended with {code}"])[-1]


def in_a_line(error: BaseException, *, kind: bool = True) -> str:
    """What an exception of a library says, cut and without line breaks. kind: with its type."""
    said = f"{type(error).__name__}: {error}" if kind else str(error)
    return " ".join(said.split())[:MAX_REASON]


class PacelineError(Exception):
    """Anything that Paceline reports to a caller. Its subclasses are gRPC's canonical codes."""

    @property
    def word(self) -> str:
        """Its kind for logs and metrics, as resource_exhausted."""
        return re.sub(r"\B(?=[A-Z])", "_", type(self).__name__).lower()


class InvalidArgument(PacelineError):
    """A field has a value that no retry makes valid."""

    @classmethod
    def of(cls, field: str, value: object, limit: str) -> "InvalidArgument":
        """Name the field, the value it had and the limit that holds for it."""
        return cls(f"{field} is {shown(value)}; it must be {limit}")


class NotFound(PacelineError):
    """The model asked for is not served here."""


class FailedPrecondition(PacelineError):
    """Fingerprint, vocabulary or required feature do not fit this server."""


BAD_INPUT = (InvalidArgument, NotFound, FailedPrecondition)
"""What starting again does not mend: of a process, exit status 2."""


class ResourceExhausted(PacelineError):
    """Full: KV, sessions, or the buffer of a client that does not read."""

    def __init__(self, message: str, retry_after: float | None = 1.0) -> None:
        """retry_after: seconds after which to try again; None when that would not help."""
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(PacelineError):
    """No server can take the request now: none is there, or it is draining."""


class DeadlineExceeded(PacelineError):
    """The caller's deadline passed."""


class Cancelled(PacelineError):
    """The caller went away."""


class Aborted(PacelineError):
    """Somebody else goes on with it: the stream was resumed by another call."""


class Unimplemented(PacelineError):
    """What is asked for is not served, whatever its fields are."""


class Unauthenticated(PacelineError):
    """The caller did not prove who it is."""


class Internal(PacelineError):
    """A bug. The request id leads to it in the log."""
