"""Which sessions the engine has: the pages of KV promised to them, and their order. Pure."""

from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.model import KVSize


class AdmittedSession(Protocol):
    """What admission asks of a session."""

    @property
    def pages(self) -> int:
        """Pages of KV that are promised to it."""

    @property
    def priority(self) -> int:
        """A higher one goes first."""

    @property
    def closed(self) -> bool:
        """Whether its pages can be had again."""


Session = TypeVar("Session", bound=AdmittedSession)


class Admission(Generic[Session]):
    """The open sessions, and the pages promised to them.

    Pages are promised when a session opens, so that none runs out of KV half way.
    """

    def __init__(self, kv: KVSize) -> None:
        """Begin with no session."""
        self.kv = kv
        self.pages_used = 0
        self.sessions: list[Session] = []
        """Those that wait longest for a step come first."""

    @property
    def free_pages(self) -> int:
        """Pages that are promised to no session; the reserve counts."""
        return self.kv.pages - self.pages_used

    def check_length(self, max_length: int, *, resumes: bool) -> None:
        """Raise InvalidArgument where a session of so many tokens never fits."""
        most = self.kv.most(resumes=resumes)
        if max_length > most:
            limit = f"at most {most}, what KV here has for one stream"
            raise InvalidArgument.of("tokens of prompt and max_tokens together", max_length, limit)

    def pages_for(self, max_length: int, *, resumes: bool) -> int:
        """The pages to promise to a session of so many tokens; one that resumes has the reserve.

        Raises ResourceExhausted when there is no room now.
        """
        pages = self.kv.pages_of(max_length)
        free = self.kv.pages_for(resumes=resumes) - self.pages_used
        if pages > free:
            raise ResourceExhausted(f"KV is full: {pages} pages needed, {max(free, 0)} free")
        return pages

    def add(self, session: Session) -> None:
        """Promise `session` its pages."""
        self.pages_used += session.pages
        self.sessions.append(session)

    def remove_closed(self) -> list[Session]:
        """Remove the sessions that are closed, and return them."""
        closed = [session for session in self.sessions if session.closed]
        if closed:
            self.pages_used -= sum(session.pages for session in closed)
            self.sessions = [session for session in self.sessions if not session.closed]
        return closed

    def by_precedence(self) -> list[Session]:
        """By priority; among equals those that wait longest for a step come first."""
        return sorted(self.sessions, key=lambda session: -session.priority)

    def served(self, sessions: Collection[Session]) -> None:
        """These had a step, and go behind those that had none."""
        served = {id(session) for session in sessions}
        self.sessions = sorted(self.sessions, key=lambda session: id(session) in served)
