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
import tomllib
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paceline.errors import InvalidArgument, Unauthenticated, in_a_line, listed
from paceline.nearest import did_you_mean
from paceline.rpc.caller import Caller, Limits
from paceline.rpc.watched_files import Reloaded

_log = structlog.get_logger(__name__)

LEAST_CHARACTERS = 16
"""A shorter token could be guessed."""
_GIVEN = "--tokens (PACELINE_ORCHESTRATOR_TOKENS)"
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
        self._path, self._given = path, _Callers()
        for name, token in (given or {}).items():
            self._given.add(token, Caller(name, proven=True))
        paths = (path,) if path else ()
        self.files = Reloaded("tokens", paths, self._read, taken=self._taken, refused=_refused)

    def caller(self, header: str | bytes | None) -> Caller:
        """Whose the token in metadata `authorization` is; raises Unauthenticated."""
        if not header:
            raise Unauthenticated(_MISSING)
        scheme, _, token = (header if isinstance(header, str) else "").partition(" ")
        found = self.files.current.of(token.strip())
        if scheme.lower() != "bearer" or found is None:
            raise Unauthenticated(_WRONG)
        return found

    def _read(self) -> "_Callers":
        """InvalidArgument too where a caller of the file has a token elsewhere, without limits."""
        found = _callers_in(self._path) if self._path else _Callers()
        if twice := sorted(found.names & self._given.names):
            raise InvalidArgument(
                f"{self._path} has {listed(twice)}, as has {_GIVEN}; a caller's tokens must be in "
                "one of them, with its limits"
            )
        found.join(self._given)
        return found

    def _taken(self) -> None:
        _log.info("tokens taken", path=str(self._path))


def _refused(reason: str) -> None:
    _log.error("tokens not taken", reason=reason)


class _Callers:
    """Callers by their tokens, of which only keyed digests are kept.

    A digest is looked up, not a token compared: the key is new in each process, so how long it
    takes tells nothing of any token.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, Caller] = {}

    def add(self, token: str, caller: Caller) -> None:
        """InvalidArgument where a token is too short, or there already."""
        if len(token) < LEAST_CHARACTERS or not token.isascii() or not token.isprintable():
            raise InvalidArgument(
                f"a token of {caller.name} must be at least {LEAST_CHARACTERS} printable ASCII "
                "characters"
            )
        if token != token.strip():
            raise InvalidArgument(f"a token of {caller.name} must not begin or end with a space")
        self._join(_digest(token), caller)

    def join(self, other: "_Callers") -> None:
        """Add all of another; InvalidArgument as of `add`."""
        for digest, caller in other._of.items():
            self._join(digest, caller)

    def _join(self, digest: bytes, caller: Caller) -> None:
        owner = self._of.setdefault(digest, caller)
        if owner is caller:
            return
        if owner.name == caller.name:
            raise InvalidArgument(f"{caller.name} has one token twice")
        raise InvalidArgument(f"{owner.name} and {caller.name} have one token, not each its own")

    @property
    def names(self) -> set[str]:
        """Of all."""
        return {caller.name for caller in self._of.values()}

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
    if not tables:
        raise InvalidArgument(
            f'{path} has no caller; it must have one at least, as [alice] with tokens = ["..."]: '
            "nobody else could call"
        )
    found = _Callers()
    for name, table in tables.items():
        entry = _entry(path, name, table)
        for token in entry.tokens:
            found.add(token, entry.caller(name))
    return found


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Where it stops to be TOML, without what stands there: it may be a token."""
    text = str(error)
    if text.startswith("Cannot declare"):
        return f"a table is there twice {text[text.find('(at ') :]}"
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
