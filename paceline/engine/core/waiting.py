"""The queue in front of KV: who waits, who comes first, for how long, and how long it takes. Pure.

Times are in seconds, on any one clock.
"""

import math
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from paceline.averages import Rate
from paceline.errors import ResourceExhausted
from paceline.protocol.limits import MAX_PRIORITY

Rank = tuple[int, bool, int]
"""Lower goes first: by priority, then streams of lost servers, then by arrival."""
_MEMORY = 16
_LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WaitingLimits:
    """sessions: so many may wait, and as many that come from lost servers. seconds: so long.

    They hold for sessions that have had no KV yet. One that has goes on waiting, until its caller
    gives up.
    """

    sessions: int
    seconds: float


@dataclass(slots=True)
class Claim:
    """The KV that one session is promised, and what it will be.

    length: tokens whose KV it needs to go on. max_length: most it will ever have. resumes: it
    comes from a lost server. spare: others go on without it, so it gives way to all that enter.
    pages: promised; none while it waits. begun: it has had some. since: when its wait began.
    """

    length: int
    max_length: int
    priority: int = 0
    resumes: bool = False
    spare: bool = False
    pages: int = 0
    rank: Rank = (0, False, 0)
    begun: bool = False
    since: float = 0.0

    def ranked(self, number: int) -> None:
        """Take its rank; number: how many came before it. What is spare goes behind all else."""
        if self.spare:
            self.priority = -MAX_PRIORITY - 1
        self.rank = (-self.priority, not self.resumes, number)


class ClaimingSession(Protocol):
    """What the queue asks of a session."""

    @property
    def claim(self) -> Claim:
        """Its KV."""

    @property
    def closed(self) -> bool:
        """Whether its pages can be had again."""


Session = TypeVar("Session", bound=ClaimingSession)


def rank_of(session: ClaimingSession) -> Rank:
    """The rank of its claim."""
    return session.claim.rank


class WaitingQueue(Generic[Session]):
    """Sessions that wait for KV, by rank."""

    def __init__(self, limits: WaitingLimits) -> None:
        """Begin with none."""
        self.limits = limits
        self.sessions: list[Session] = []
        self._seconds = Rate(_MEMORY)  # from one that was let in to the next
        self._mark = 0.0  # when the last one was, or the queue began

    def holds_back(self, session: Session) -> bool:
        """Whether one waits that must not be overtaken by `session`."""
        claim = session.claim
        return any(
            (one.claim.resumes or not claim.resumes) and one.claim.rank < claim.rank
            for one in self.sessions
            if not one.closed
        )

    def check_room(self, claim: Claim, now: float) -> None:
        """Raise ResourceExhausted where no more may wait."""
        alike = sum(
            one.claim.resumes == claim.resumes and not one.claim.begun and not one.closed
            for one in self.sessions
        )
        if alike >= self.limits.sessions:
            what = f"KV is full, and {alike} streams wait for it, the most that may"
            raise ResourceExhausted(f"{what} (--max-waiting)", self.seconds(now))

    def add(self, session: Session, now: float) -> None:
        """Have it wait from now on."""
        if not self.sessions:
            self._mark = now
        session.claim.since = now
        insort(self.sessions, session, key=rank_of)

    def candidates(self) -> Iterator[Session]:
        """In the order in which they are let in; the caller lets those in that fit.

        One that does not fit is overtaken by none that would take pages from it: streams of lost
        servers alone have the reserve, and need not wait for one that may not have it.
        """
        held_back = False
        for session in [one for one in self.sessions if not one.closed]:
            resumes = session.claim.resumes
            if held_back and not resumes:
                continue
            yield session
            if not session.claim.pages:
                held_back = True
                if resumes:
                    return

    def let_in(self, session: Session, now: float) -> None:
        """It waits no longer."""
        self.sessions.remove(session)
        self._seconds.observe(now - self._mark)
        self._mark = now

    def remove_closed(self) -> list[Session]:
        """Remove those that are closed, and return them."""
        closed = [one for one in self.sessions if one.closed]
        if closed:
            self.sessions = [one for one in self.sessions if not one.closed]
        return closed

    def remove_late(self, now: float) -> list[Session]:
        """Remove those that have waited too long, and return them."""
        late = [one for one in self.sessions if self._left(one, now) <= 0.0]
        if late:
            self.sessions = [one for one in self.sessions if one not in late]
        return late

    def next_late(self, now: float) -> float | None:
        """Seconds until the next one has waited too long; None where that never comes."""
        left = min((self._left(one, now) for one in self.sessions), default=math.inf)
        return None if left == math.inf else max(0.0, left)

    def _left(self, session: Session, now: float) -> float:
        waited = now - session.claim.since
        return math.inf if session.claim.begun else self.limits.seconds - waited

    def late_error(self, now: float) -> ResourceExhausted:
        """What one is told that has waited too long."""
        limit = f"{self.limits.seconds:g} s, the longest that a stream waits (--max-wait-seconds)"
        return ResourceExhausted(f"KV was full for {limit}", self.seconds(now))

    def seconds(self, now: float) -> float:
        """How long the queue takes, by how often one was let in of late."""
        if not self.sessions:
            return _LEAST_SECONDS
        each = max(self._seconds.value or 0.0, now - self._mark)
        return max(_LEAST_SECONDS, min(each * len(self.sessions), self.limits.seconds))
