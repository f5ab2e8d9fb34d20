"""Which sessions the engine has: the pages of KV promised to them, and their order. Pure.

A session is promised KV for the tokens it begins with and a reserve, and for more as it grows: so
nobody need guess how long it will be. Where there are no pages the session that is last in rank
gives up all of its own. It is preempted: it waits in the queue and computes its tokens again. The
first in rank never is. So it goes on to its end, and then another one is the first.
"""

import itertools
from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar

from paceline.engine.core.waiting import (
    Claim,
    ClaimingSession,
    WaitingLimits,
    WaitingQueue,
    rank_of,
)
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.model import KVSize

RESERVE_SHARE = 2
"""A page over this is the reserve: tokens that a session can grow by before it needs more."""
HEADROOM_SHARE = 8
"""For so many sessions that may grow a page is left when one more is let in."""


class AdmittedSession(ClaimingSession, Protocol):
    """What admission asks of a session."""

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV it has."""


Session = TypeVar("Session", bound=AdmittedSession)


class Admission(Generic[Session]):
    """The open sessions, those that wait, and the pages promised."""

    def __init__(
        self, kv: KVSize, limits: WaitingLimits | None = None, *, grows: bool = True
    ) -> None:
        """Begin with no session.

        limits: of those that wait; None: none does, whoever has no room is dropped. grows: False
        where a session must not be preempted: it is promised all it may come to at once.
        """
        self.kv = kv
        self.drops = limits is None
        self.pages_used = 0
        self.sessions: list[Session] = []
        """Those that have KV; who waits longest for a step comes first."""
        self.queue: WaitingQueue[Session] = WaitingQueue(limits or WaitingLimits(0, 0.0))
        self._reserve = kv.page_tokens // RESERVE_SHARE
        self._gave_way: list[Session] = []
        self._grows = grows
        self._numbers = itertools.count()

    @property
    def free_pages(self) -> int:
        """Pages that are promised to no session; the reserve for lost servers' streams counts."""
        return self.kv.pages - self.pages_used

    def check_length(self, max_length: int, *, resumes: bool) -> None:
        """Raise InvalidArgument where a session of so many tokens never fits."""
        most = self.kv.most(resumes=resumes)
        if max_length > most:
            limit = f"at most {most}, what KV here has for one stream"
            raise InvalidArgument.of("tokens of prompt and max_tokens together", max_length, limit)

    def enter(self, session: Session, now: float, *, waits: bool = True) -> None:
        """Promise `session` its pages, or have it wait; ResourceExhausted where it may not."""
        claim = session.claim
        claim.ranked(next(self._numbers))
        if not self.queue.holds_back(session) and self._promise(session):
            return
        if self.drops or claim.spare or not waits or not self.queue.limits.sessions:
            raise self.full(claim, now)
        self.queue.check_room(claim, now)
        self.queue.add(session, now)

    def full(self, claim: Claim, now: float) -> ResourceExhausted:
        """What a session is told that there is no room for now."""
        pages, free = self._first_pages(claim), max(self._free(claim) - self._headroom, 0)
        others = len(self.queue.sessions)
        what = f"KV is full: {pages} pages needed, {free} free"
        said = f"{what}, for which {others} others wait" if others else what
        return ResourceExhausted(said, self.queue.seconds(now))

    def let_in(self, now: float) -> list[Session]:
        """Promise pages to those that wait, as far as there are some; returns who got some."""
        entered = [one for one in self.queue.candidates() if self._promise(one)]
        for session in entered:
            self.queue.let_in(session, now)
        return entered

    def grow(self, longer: Iterable[tuple[Session, int]], now: float) -> list[Session]:
        """Promise sessions KV for so many tokens; returns those that are preempted for it.

        These wait, or are dropped. Spare ones give way before, see take_gave_way.
        """
        preempted: list[Session] = []
        for session, length in sorted(longer, key=lambda one: rank_of(one[0])):
            session.claim.length = length
            while session.claim.pages and not self._add(session, self.kv.pages_of(length)):
                last = max(self.sessions, key=rank_of)
                self._preempt(last, now)
                preempted.append(last)
        return preempted

    def _preempt(self, session: Session, now: float) -> None:
        claim = session.claim
        self.sessions.remove(session)
        self.pages_used -= claim.pages
        claim.pages = 0
        claim.length = max(claim.length, session.cached_tokens)
        if not (self.drops or claim.spare):
            self.queue.add(session, now)

    def _promise(self, session: Session) -> bool:
        """Promise a session its first pages, if there are some; returns whether there are.

        Some are left for others to grow into, or the next step might preempt who was let in.
        """
        claim = session.claim
        pages = self._first_pages(claim)
        if pages + self._headroom > self._free(claim):
            return False
        claim.begun = True
        self._give(claim, pages)
        self.sessions.append(session)
        return True

    @property
    def _headroom(self) -> int:
        """Pages that are left free when a session is let in."""
        page_tokens = self.kv.page_tokens
        growing = sum(one.claim.pages * page_tokens < one.claim.max_length for one in self.sessions)
        return growing // HEADROOM_SHARE

    def _first_pages(self, claim: Claim) -> int:
        most = claim.length + self._reserve if self._grows else claim.max_length
        return self.kv.pages_of(min(claim.max_length, most))

    def _add(self, session: Session, pages: int) -> bool:
        claim = session.claim
        more = max(0, pages - claim.pages)
        if more > self._free(claim):
            return False
        self._give(claim, more)
        return True

    def _give(self, claim: Claim, pages: int) -> None:
        """As many as _free says there are at most: where they lack, spare sessions have them."""
        claim.pages += pages
        self.pages_used += pages
        most = self.kv.pages_for(resumes=claim.resumes)
        for one in self._spare(claim):
            if self.pages_used > most:
                self.pages_used -= one.claim.pages
                one.claim.pages = 0
                self._gave_way.append(one)

    def _free(self, claim: Claim) -> int:
        spare = sum(one.claim.pages for one in self._spare(claim))
        return self.kv.pages_for(resumes=claim.resumes) - self.pages_used + spare

    def _spare(self, claim: Claim) -> list[Session]:
        """Sessions that give way to a claim, the last come first."""
        if claim.spare:
            return []
        return [one for one in reversed(self.sessions) if one.claim.spare and one.claim.pages]

    def take_gave_way(self) -> list[Session]:
        """Spare sessions whose pages are others' by now. They are to end before the next step."""
        gave_way, self._gave_way = self._gave_way, []
        return gave_way

    def remove_closed(self) -> list[Session]:
        """Remove the sessions that are closed, and return them."""
        closed = [session for session in self.sessions if session.closed]
        if closed:
            self.pages_used -= sum(session.claim.pages for session in closed)
            self.sessions = [session for session in self.sessions if not session.closed]
        return closed + self.queue.remove_closed()

    def by_precedence(self) -> list[Session]:
        """By priority; among equals those that wait longest for a step come first."""
        return sorted(self.sessions, key=lambda session: -session.claim.priority)

    def served(self, sessions: Collection[Session]) -> None:
        """These had a step, and go behind those that had none."""
        served = {id(session) for session in sessions}
        self.sessions = sorted(self.sessions, key=lambda session: id(session) in served)
