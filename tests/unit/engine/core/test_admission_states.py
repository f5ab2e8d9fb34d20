"""Whatever comes, grows and goes: no page is lost, no session is, and the first one goes on."""

import math
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paceline.engine.core.admission import HEADROOM_SHARE, Admission
from paceline.engine.core.waiting import Claim, WaitingLimits, rank_of
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.model import KVSize

PAGE, PAGES, RESERVE = 4, 8, 2
LIMITS = WaitingLimits(sessions=3, seconds=50.0)
LARGE_STEP = 6


@dataclass(eq=False)
class Stream:
    """A stream of `total` tokens, `length` of which are there, and KV of `cached_tokens`."""

    claim: Claim
    length: int
    total: int
    closed: bool = False
    cached_tokens: int = 0


class Streams(RuleBasedStateMachine):
    """An engine's sessions: each step computes what they have, and one token more."""

    drops = False

    def __init__(self) -> None:
        super().__init__()
        limits = None if self.drops else LIMITS
        self.admission: Admission[Stream] = Admission(KVSize(PAGE, PAGES, RESERVE), limits)
        self.open: list[Stream] = []
        self.now = 0.0

    @rule(
        length=st.integers(1, PAGE * PAGES),
        more=st.integers(0, 2 * PAGE),
        priority=st.integers(-1, 1),
        resumes=st.booleans(),
        waits=st.booleans(),
        spare=st.booleans(),
    )
    def enter(
        self, length: int, more: int, priority: int, resumes: bool, waits: bool, spare: bool
    ) -> None:
        total = length + more
        stream = Stream(Claim(length, total, priority, resumes, spare), length, total)
        try:
            self.admission.check_length(total, resumes=resumes)
            self.admission.enter(stream, self.now, waits=waits)
            assert (waits and not spare) or stream.claim.pages
            self.open.append(stream)
        except InvalidArgument:
            pass
        except ResourceExhausted:
            assert spare or not self.drops or self._lacks_pages(stream.claim)
        self._free()

    def _lacks_pages(self, claim: Claim) -> bool:
        """Whether what streams leave, the spare ones not counted, is too little for a new one."""
        running = self.admission.sessions
        left = PAGES - RESERVE * (not claim.resumes)
        left -= sum(one.claim.pages for one in running if not one.claim.spare)
        growing = sum(one.claim.pages * PAGE < one.total for one in running)
        most = min(claim.max_length, claim.length + PAGE // 2)
        return math.ceil(most / PAGE) + growing // HEADROOM_SHARE > left

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open)).closed = True
        self._free()

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        late = self.admission.queue.remove_late(self.now)
        assert not any(one.claim.begun for one in late)
        self.open = [one for one in self.open if one not in late]

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """Some of those that run decode a block."""
        running = self.admission.sessions
        chosen = [one for one in running if data.draw(st.booleans())]
        self._step(chosen, data.draw(st.integers(1, LARGE_STEP)))

    def _step(self, chosen: list[Stream], block: int) -> None:
        ends = {one: min(one.total, one.length + block) for one in chosen}
        longer = [(one, end) for one, end in ends.items() if end > one.claim.pages * PAGE]
        first = min(self.admission.sessions, key=rank_of, default=None)
        preempted = self.admission.grow(longer, self.now)
        assert first not in preempted
        assert len(set(preempted)) == len(preempted)
        spare_left = any(one.claim.spare for one in self.admission.sessions if one.claim.pages)
        assert not spare_left or all(one.claim.spare for one in preempted)
        for one in preempted:
            one.cached_tokens, one.closed = 0, self.drops or one.claim.spare
        self._close_spare()
        self.open = [one for one in self.open if not one.closed]
        for one in [one for one in chosen if one.claim.pages]:
            one.cached_tokens = one.length = ends[one]
            one.closed = one.length == one.total
        self._free()

    def _close_spare(self) -> None:
        for one in self.admission.take_gave_way():
            assert one.claim.spare
            assert not one.claim.pages
            one.closed = True

    def _free(self) -> None:
        self._close_spare()
        for one in self.admission.remove_closed():
            assert one.closed
        self.open = [one for one in self.open if not one.closed]
        waiting = [one for one in self.admission.queue.sessions if not one.claim.resumes]
        entered = self.admission.let_in(self.now)
        new = [one for one in waiting if one in entered]
        assert new == waiting[: len(new)], "none is overtaken"
        if entered:
            self._free()

    @invariant()
    def nothing_is_lost(self) -> None:
        running, waiting = self.admission.sessions, self.admission.queue.sessions
        assert {*running, *waiting} == set(self.open)
        assert len(running) + len(waiting) == len(self.open)
        assert all(one.claim.pages for one in running)
        assert not any(one.claim.pages for one in waiting)
        assert self.admission.pages_used == sum(one.claim.pages for one in running) <= PAGES
        for one in running:
            assert one.claim.pages >= math.ceil(one.cached_tokens / PAGE)
            assert one.claim.pages <= math.ceil(one.total / PAGE)

    @invariant()
    def the_queue_is_bounded_by_rank_and_never_stands_alone(self) -> None:
        waiting = self.admission.queue.sessions
        assert waiting == sorted(waiting, key=rank_of)
        assert self.admission.sessions or not waiting
        for resumes in (False, True):
            new = [one for one in waiting if one.claim.resumes == resumes and not one.claim.begun]
            assert len(new) <= (0 if self.drops else LIMITS.sessions)

    def teardown(self) -> None:
        """Left to themselves all come to their end, and each step brings some token."""
        tokens = sum(one.total - one.length + 1 for one in self.open)
        for _ in range(tokens):
            self._step(list(self.admission.sessions), 1)
        assert not self.open
        assert self.admission.pages_used == 0


class DroppedStreams(Streams):
    """The same where none waits: whoever has no room is dropped."""

    drops = True


TestStreams = Streams.TestCase
TestDroppedStreams = DroppedStreams.TestCase
TestStreams.settings = TestDroppedStreams.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
