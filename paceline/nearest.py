"""What may have been meant by a name that is none. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.7
"""What is less like a name than this is not offered in its place."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like it; empty where none is near."""
    near = get_close_matches(name.lower(), list(known), 1, NEAR) if isinstance(name, str) else []
    return near[0] if near else ""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """How a message goes on that a name is none; empty where nothing is near."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""
