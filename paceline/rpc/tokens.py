"""Bearer tokens of callers (RFC 6750), from a file that may change and from the environment.

The file is TOML, a table for each caller:

    [alice]
    tokens = ["the one in use", "the one that follows it"]
    streams = 8
    requests_per_minute = 600
    tokens_per_minute = 100_000
"""

import hashlib
import secrets
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paceline.errors import InvalidArgument, Unauthenticated, in_a_line
from paceline.nearest import did_you_mean
from paceline.rpc.caller import Caller, Limits
from paceline.rpc.watched_files import WatchedFiles

_log = structlog.get_logger(__name__)

LEAST_CHARACTERS = 16
"""A shorter token could be guessed."""
LOOK_SECONDS = 1.0
"""Whether the file has changed is looked at no more often than this."""
_KEY = secrets.token_bytes(32)
_GIVE = "--token or PACELINE_TOKEN of a command, token= in Python"
_MISSING = (
    f"metadata authorization is missing; it must be 'Bearer TOKEN', of a token known here ({_GIVE})"
)
_WRONG = f"the token is not known here; metadata authorization must be 'Bearer TOKEN' ({_GIVE})"


class _Entry(BaseModel):
    """One caller in the file."""

    model_config = ConfigDict(extra="forbid")

    tokens: list[str] = Field(min_length=1)
    streams: int | None = Field(None, ge=1)
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)

    def caller(self, name: str) -> Caller:
        limits = Limits(self.streams, self.requests_per_minute, self.tokens_per_minute)
        return Caller(name, proven=True, limits=limits)


class CallerTokens:
    """Which token is whose."""

    def __init__(self, path: Path | None = None, given: Mapping[str, str] | None = None) -> None:
        """given: tokens by caller that no file has. InvalidArgument says what is wrong with any."""
        self._path = path
        self._given = _Callers()
        for name, token in (given or {}).items():
            self._given.add(token, Caller(name, proven=True))
        self._of_file = _callers_in(path) if path else _Callers()
        self._files = WatchedFiles((path,) if path else ())
        self._looked = time.monotonic()

    def caller(self, header: str | bytes | None) -> Caller:
        """Whose the token in metadata `authorization` is; raises Unauthenticated."""
        if not header:
            raise Unauthenticated(_MISSING)
        scheme, _, token = (header if isinstance(header, str) else "").partition(" ")
        self._look()
        found = self._given.of(token.strip()) or self._of_file.of(token.strip())
        if scheme.lower() != "bearer" or found is None:
            raise Unauthenticated(_WRONG)
        return found

    def _look(self) -> None:
        """Take a file that has changed. One that is wrong leaves the tokens as they were."""
        now = time.monotonic()
        if self._path is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if not self._files.changed():
            return
        try:
            self._of_file = _callers_in(self._path)
        except InvalidArgument as error:
            _log.error("tokens not taken", reason=str(error))
        else:
            _log.info("tokens taken", path=str(self._path))


class _Callers:
    """Callers by their tokens, of which only keyed digests are kept.

    A digest is looked up, not a token compared: the key is new in each process, so how long it
    takes tells nothing of any token.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, Caller] = {}

    def add(self, token: str, caller: Caller) -> None:
        """InvalidArgument where a token is too short, or another's too."""
        if len(token) < LEAST_CHARACTERS or not token.isascii() or not token.isprintable():
            raise InvalidArgument(
                f"a token of {caller.name} must be at least {LEAST_CHARACTERS} printable ASCII "
                "characters"
            )
        owner = self._of.setdefault(_digest(token), caller)
        if owner.name != caller.name:
            raise InvalidArgument(
                f"{owner.name} and {caller.name} have one token, not each its own"
            )

    def of(self, token: str) -> Caller | None:
        """Whose it is."""
        return self._of.get(_digest(token))


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode(errors="replace"), key=_KEY).digest()


def _callers_in(path: Path) -> _Callers:
    """InvalidArgument names file, caller and field, and quotes no token."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {in_a_line(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path} is not TOML: {_place(error)}") from None
    found = _Callers()
    for name, table in tables.items():
        entry = _entry(path, name, table)
        for token in entry.tokens:
            found.add(token, entry.caller(name))
    return found


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Where it stops to be TOML, without what stands there: it may be a token."""
    text = str(error)
    return text[text.find("(at ") :] if "(at " in text else "it cannot be parsed"


def _entry(path: Path, name: str, table: object) -> _Entry:
    try:
        return _Entry.model_validate(table)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        # A key that is misspelt comes before the one that is missing for it.
        first = min(found, key=lambda one: one["type"] != "extra_forbidden")
        field = ".".join([name, *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            known = list(_Entry.model_fields)
            what = f"{field} is no key; it must be one of {', '.join(known)}"
            meant = did_you_mean(first["loc"][-1], known)
            raise InvalidArgument(f"{path}: {what}{meant}") from None
        raise InvalidArgument(f"{path}: {field}: {first['msg'].lower()}") from None
