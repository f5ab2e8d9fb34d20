"""Pages of KV are promised as sessions grow, who has none waits, and sessions take turns."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from paceline.engine.core.admission import Admission
from paceline.engine.core.waiting import Claim, WaitingLimits
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.model import KVSize

LIMITS = WaitingLimits(sessions=2, seconds=10.0)


@dataclass(eq=False)
class Session:
    """A session that begins with `length` tokens and comes to `most`."""

    claim: Claim
    closed: bool = False
    cached_tokens: int = 0


@dataclass
class Pages:
    """An admission on a clock, and the sessions that enter it."""

    pages: int
    reserve: int = 0
    limits: WaitingLimits | None = LIMITS
    grows: bool = True
    now: float = 0.0
    admission: Admission[Session] = field(init=False)

    def __post_init__(self) -> None:
        kv = KVSize(16, self.pages, self.reserve)
        self.admission = Admission(kv, self.limits, grows=self.grows)

    def enter(self, length: int, most: int, *, waits: bool = True, **claim: Any) -> Session:
        session = Session(Claim(length, most, **claim))
        self.admission.enter(session, self.now, waits=waits)
        return session

    def end(self, session: Session) -> list[Session]:
        """Close it; returns who is let in for it."""
        session.closed = True
        self.admission.remove_closed()
        return self.admission.let_in(self.now)


def test_pages_are_promised_for_what_is_there_and_half_a_page_and_can_be_had_again() -> None:
    pages = Pages(4, reserve=1)
    first = pages.enter(24, 100)
    assert first.claim.pages == 2
    assert pages.enter(25, 32, resumes=True).claim.pages == 2
    with pytest.raises(ResourceExhausted, match="1 pages needed, 0 free"):
        pages.enter(1, 16, waits=False)
    with pytest.raises(InvalidArgument, match="at most 48"):
        pages.admission.check_length(49, resumes=False)
    first.closed = True
    assert pages.admission.remove_closed() == [first]
    assert (pages.admission.pages_used, pages.admission.free_pages) == (2, 2)


def test_one_that_must_not_be_preempted_has_all_its_pages_at_once() -> None:
    pages = Pages(4, grows=False)
    assert pages.enter(1, 48).claim.pages == 3
    assert pages.enter(1, 20).claim.pages == 0


def test_the_last_come_of_the_lowest_priority_makes_room_for_others_to_grow() -> None:
    pages = Pages(4)
    low = pages.enter(1, 64, priority=-1)
    old, young, high = pages.enter(1, 64), pages.enter(1, 64), pages.enter(1, 64, priority=1)
    low.cached_tokens = 7
    assert pages.admission.grow([(old, 17)], 0.0) == [low]
    assert (old.claim.pages, low.claim.pages, low.claim.length) == (2, 0, 7)
    assert pages.admission.grow([(high, 17)], 0.0) == [young]
    assert pages.admission.grow([(old, 33), (high, 33)], 0.0) == [old]
    assert pages.admission.sessions == [high]


def test_who_is_preempted_goes_before_those_who_came_later_and_comes_back_whole() -> None:
    pages = Pages(3)
    old, young = pages.enter(1, 48), pages.enter(1, 48)
    assert pages.admission.grow([(young, 17)], 0.0) == []
    late = pages.enter(20, 48)
    young.cached_tokens = 30
    assert pages.admission.grow([(old, 17)], 0.0) == [young]
    assert pages.admission.let_in(0.0) == []  # two pages and a reserve do not fit beside two
    assert pages.end(old) == [young]
    assert young.claim.pages == 3
    assert pages.end(young) == [late]


def test_a_session_that_is_last_itself_waits_and_the_others_go_on() -> None:
    pages = Pages(2)
    old, young = pages.enter(1, 32), pages.enter(1, 32)
    assert pages.admission.grow([(young, 17)], 0.0) == [young]
    assert pages.admission.grow([(old, 17)], 0.0) == []


def test_without_a_queue_who_has_no_room_is_refused_and_dropped() -> None:
    pages = Pages(2, limits=None)
    old, young = pages.enter(1, 32), pages.enter(1, 32)
    with pytest.raises(ResourceExhausted, match="KV is full: 1 pages needed, 0 free"):
        pages.enter(1, 16)
    assert pages.admission.grow([(old, 17)], 0.0) == [young]
    assert pages.admission.queue.sessions == []
    assert str(pages.admission.full(young.claim, 0.0)) == "KV is full: 1 pages needed, 0 free"


def test_the_queue_is_bounded_and_says_how_long_it_takes() -> None:
    pages = Pages(1)
    running = pages.enter(1, 16)
    waiting = [pages.enter(1, 16), pages.enter(1, 16)]
    limit = "^KV is full, and 2 streams wait for it, the most that may \\(--max-waiting\\)$"
    with pytest.raises(ResourceExhausted, match=limit) as full:
        pages.enter(1, 16)
    assert full.value.retry_after == 1.0
    pages.now = 3.0
    assert pages.end(running) == waiting[:1]
    pages.now = 6.0
    assert pages.end(waiting[0]) == waiting[1:]
    pages.enter(1, 16), pages.enter(1, 16)
    with pytest.raises(ResourceExhausted) as full:
        pages.enter(1, 16)
    assert full.value.retry_after == pytest.approx(6.0)


def test_who_may_not_wait_is_told_what_keeps_it_out() -> None:
    pages = Pages(4)
    pages.enter(1, 48), pages.enter(1, 16)
    pages.enter(40, 48)
    with pytest.raises(ResourceExhausted, match="1 pages needed, 2 free, for which 1 others wait"):
        pages.enter(1, 16, waits=False)
    pages = Pages(9)
    for _ in range(8):
        pages.enter(1, 32)
    with pytest.raises(ResourceExhausted, match=r"1 pages needed, 0 free$"):
        pages.enter(1, 16, waits=False)


def test_streams_of_lost_servers_go_first_have_the_reserve_and_a_bound_of_their_own() -> None:
    pages = Pages(2, reserve=1)
    first = pages.enter(1, 16)
    new = [pages.enter(1, 16), pages.enter(1, 16)]
    lost = [pages.enter(1, 16, resumes=True) for _ in range(3)]
    assert [one.claim.pages for one in (*new, *lost)] == [0, 0, 1, 0, 0]
    with pytest.raises(ResourceExhausted):
        pages.enter(1, 16, resumes=True)
    assert pages.end(first) == lost[1:2]
    assert pages.end(lost[0]) == lost[2:]
    assert pages.end(lost[1]) == []
    assert pages.end(lost[2]) == new[:1]


def test_a_wait_has_an_end_unless_the_session_has_begun() -> None:
    pages = Pages(2)
    old, young = pages.enter(1, 32), pages.enter(1, 32)
    assert pages.admission.queue.next_late(0.0) is None
    pages.admission.grow([(old, 17)], 1.0)
    assert pages.admission.queue.next_late(1.0) is None
    pages.now = 2.0
    new = pages.enter(1, 32)
    queue = pages.admission.queue
    assert queue.next_late(5.0) == 7.0
    assert queue.remove_late(11.9) == []
    assert queue.remove_late(12.0) == [new]
    assert queue.sessions == [young]
    said = "KV was full for 10 s, the longest that a stream waits (--max-wait-seconds)"
    assert str(queue.late_error(12.0)) == said


def test_one_that_gives_up_leaves_the_queue() -> None:
    pages = Pages(1)
    running, gone, next_one = pages.enter(1, 16), pages.enter(1, 16), pages.enter(1, 16)
    assert pages.end(gone) == []
    assert pages.admission.queue.sessions == [next_one]
    assert pages.end(running) == [next_one]


def test_pages_are_left_for_others_to_grow_into() -> None:
    pages = Pages(18)
    growing = [pages.enter(1, 64) for _ in range(16)]
    assert all(one.claim.pages for one in growing)
    assert pages.enter(1, 64).claim.pages == 0
    for one in growing[:8]:
        one.claim.max_length = 16
    assert len(pages.admission.let_in(0.0)) == 1


def test_priority_goes_first_and_equals_take_turns() -> None:
    pages = Pages(64)
    low, first, second = pages.enter(1, 16, priority=-1), pages.enter(1, 16), pages.enter(1, 16)
    admission = pages.admission
    assert admission.by_precedence() == [first, second, low]
    admission.served([first])
    assert admission.by_precedence() == [second, first, low]


def test_spare_sessions_give_way_to_one_that_enters_and_the_last_come_goes_first() -> None:
    pages = Pages(4, limits=None)
    first = pages.enter(8, 16)
    spare = [pages.enter(8, 16, spare=True) for _ in range(3)]
    with pytest.raises(ResourceExhausted, match="1 pages needed, 0 free"):
        pages.enter(8, 16, spare=True)
    assert pages.admission.take_gave_way() == []
    second = pages.enter(8, 32)
    assert pages.admission.take_gave_way() == [spare[2]]
    assert [one.claim.pages for one in (first, *spare, second)] == [1, 1, 1, 0, 1]
    assert pages.admission.free_pages == 0


def test_spare_sessions_give_way_to_one_that_grows_which_preempts_nobody() -> None:
    pages = Pages(4, limits=None)
    first, spare = pages.enter(8, 64), pages.enter(24, 32, spare=True, priority=5)
    second = pages.enter(8, 16)
    assert pages.admission.grow([(first, 32)], pages.now) == []
    assert pages.admission.take_gave_way() == [spare]
    assert [one.claim.pages for one in (first, spare, second)] == [2, 0, 1]


def test_spare_sessions_keep_their_pages_where_all_of_them_would_not_do() -> None:
    pages = Pages(4, limits=None)
    pages.enter(40, 64)
    spare = pages.enter(8, 16, spare=True)
    with pytest.raises(ResourceExhausted, match="2 pages needed, 1 free"):
        pages.enter(24, 32)
    assert spare.claim.pages == 1
    assert pages.admission.take_gave_way() == []
