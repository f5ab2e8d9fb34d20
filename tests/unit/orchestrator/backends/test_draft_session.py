"""What a draft is told: how far ahead it may be, and which of its tokens may come together."""

import asyncio
from collections.abc import Sequence

import pytest

from orchestrator.backends.draft_session import DraftSession
from orchestrator.speculation.drafting.lookahead import BEGIN_LOOKAHEAD
from orchestrator.speculation.estimates.measurements import WAIT_ROUNDS, DraftMeasurements
from orchestrator.speculation.pacing.plan import Plan, WaitForCount
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import TimedVerdict, Verdict
from paceline_tools.simulation.clock import in_virtual_time

LENGTH, LOOKAHEAD = 4, 6
PLAN = Plan(LENGTH, WaitForCount(LENGTH, 30.0), lookahead=LOOKAHEAD)


async def a_round(*, shares_cores: bool) -> tuple[Proposal, list[Advance]]:
    """The second round, in which four tokens come together; and all that the draft was told."""
    measurements = DraftMeasurements()
    for restart in (True, False):
        measurements.observe_wait(0.002, Drafter.MODEL, restart=restart)
    opening = Opening("r", (1,), SamplingParams(temperature=0.0), 0, 100)
    session = DraftSession(opening, 1000, measurements, shares_cores=shares_cores)
    session.advance(TimedVerdict(Verdict(1, (2,)), 0.1))
    taking = asyncio.create_task(session.take(PLAN))
    await asyncio.sleep(0)
    base = TokenPath((1, 2)).digest
    session.receive(Proposal(2, base, (3, 4, 5, 6), (1.0,) * 4, Drafter.MODEL))
    offered = await taking
    return offered.proposal, session.advances.take_all()


def test_draft_tokens_that_only_end_a_wait_together_may_share_a_message() -> None:
    offered, told = in_virtual_time(a_round(shares_cores=False))
    assert offered.token_ids == (3, 4, 5, 6)
    assert told[0].awaited == LENGTH
    assert told[0].due_seconds
    assert list(told[0].due_seconds) == sorted(told[0].due_seconds)
    assert len(told) == 1


@pytest.mark.parametrize(("shares_cores", "behind"), [(False, LENGTH), (True, 0)])
def test_the_lookahead_lies_behind_what_is_verified_unless_they_share_cores(
    shares_cores: bool, behind: int
) -> None:
    _, told = in_virtual_time(a_round(shares_cores=shares_cores))
    assert max(one.lookahead for one in told) == LOOKAHEAD + behind


STEP, DRAFT, TRIP = 0.025, 0.0025, 0.02
FIRST = TRIP + DRAFT


class Timed:
    """A session whose draft is a round trip away, in virtual time; the test is its draft."""

    def __init__(self) -> None:
        self.measurements = DraftMeasurements()
        for restart, seconds in ((True, FIRST), (False, DRAFT)):
            self.measurements.observe_wait(seconds, Drafter.MODEL, restart=restart)
        self.measurements.observe_opening(1, FIRST)
        opening = Opening("r", (1,), SamplingParams(temperature=0.0), 0, 100)
        self.session = DraftSession(
            opening, 1000, self.measurements, shares_cores=False, round_trip_seconds=TRIP
        )
        self.path: list[int] = [1]

    def verdict(self, *tokens: int, verified: int = 0) -> None:
        now = asyncio.get_running_loop().time()
        position = len(self.path)
        self.path += tokens
        self.session.advance(TimedVerdict(Verdict(position, tokens, verified), now))

    async def step(self) -> None:
        """Nothing is waited for."""
        await self.session.take(Plan(4, lookahead=LOOKAHEAD))

    def draft_token(self, position: int, *tokens: int, margin: float = 1.0) -> None:
        base = TokenPath(self.path[:position]).digest
        self.session.receive(Proposal(position, base, tokens, (margin,) * len(tokens)))

    async def expected(self) -> float:
        """How long the next draft token is expected to take, as a plan is told."""
        plan = Asked()
        await self.session.take(plan)
        assert plan.wait is not None
        return plan.wait


class Asked(Plan):
    """A plan that notes what it is asked."""

    wait: float | None

    def __init__(self) -> None:
        super().__init__(4, WaitForCount(1), lookahead=LOOKAHEAD)

    def max_wait(
        self,
        draft_tokens: Sequence[DraftToken],
        expected_seconds: float | None,
        waited_seconds: float,
    ) -> float:
        object.__setattr__(self, "wait", expected_seconds)
        return 0.0


async def drafted(*tokens: int) -> Timed:
    """One whose draft has just answered, for the first time, with draft tokens for position 2."""
    timed = Timed()
    timed.verdict(2)
    await timed.step()
    await asyncio.sleep(FIRST)
    timed.draft_token(2, *tokens)
    return timed


def test_a_draft_on_the_path_is_expected_to_go_on_and_not_to_start_over() -> None:
    async def main() -> float:
        timed = await drafted(3)
        await asyncio.sleep(0.001)
        timed.verdict(3)  # as drafted: nothing is at hand, but the draft goes on
        return await timed.expected()

    assert in_virtual_time(main()) == pytest.approx(DRAFT - 0.001)


def test_a_draft_that_was_rejected_is_expected_a_round_trip_later() -> None:
    async def main() -> tuple[float, float]:
        timed = await drafted(3)
        timed.verdict(4)
        rejected = await timed.expected()
        await asyncio.sleep(0.01)
        timed.verdict(5)  # an ordinary decode step meanwhile is no news of the draft
        return rejected, await timed.expected()

    rejected, later = in_virtual_time(main())
    assert rejected == FIRST
    assert later == pytest.approx(FIRST - 0.01)


def test_a_draft_token_that_comes_too_late_but_right_tells_that_more_is_to_come() -> None:
    async def main() -> tuple[float, float]:
        timed = Timed()
        timed.verdict(2)
        await timed.step()
        await asyncio.sleep(STEP)
        timed.verdict(3)
        await timed.step()
        timed.draft_token(2, 4)
        wrong = await timed.expected()
        timed.draft_token(2, 3)
        return wrong, await timed.expected()

    wrong, right = in_virtual_time(main())
    assert wrong > DRAFT
    assert right == DRAFT


def test_what_was_under_way_when_an_branch_was_taken_teaches_nothing() -> None:
    async def main() -> tuple[float | None, ...]:
        timed = await drafted(3, 4)
        timed.draft_token(2, 5, 6, margin=0.0)
        timed.verdict(5)
        for _ in range(WAIT_ROUNDS):
            timed.measurements.count(1)
        await timed.step()
        await asyncio.sleep(DRAFT)
        timed.path += [6, 7]
        timed.draft_token(4, 7)
        early = timed.measurements.wait(restart=True), timed.measurements.wait(restart=False)
        await asyncio.sleep(TRIP + DRAFT)
        timed.draft_token(5, 8)
        return *early, timed.measurements.wait(restart=True)

    restart, following, later = in_virtual_time(main())
    assert (restart, following) == (FIRST, DRAFT)
    assert later is not None
    assert later > FIRST


def test_draft_tokens_that_were_awaited_together_teach_when_the_first_of_them_was_made() -> None:
    async def main() -> float | None:
        timed = await drafted(3)
        timed.verdict(4)
        taking = asyncio.create_task(timed.session.take(PLAN))
        await asyncio.sleep(0.1 + 3 * DRAFT)
        timed.draft_token(3, 5, 6, 7, 8)
        await taking
        return timed.measurements.wait(restart=True)

    assert in_virtual_time(main()) == pytest.approx((FIRST + 0.1) / 2)


def test_while_the_target_reads_the_prompt_the_draft_may_draft_token_what_comes_first() -> None:
    async def main() -> list[int]:
        timed = Timed()
        timed.session.begin()
        return [one.lookahead for one in timed.session.advances.take_all()]

    assert in_virtual_time(main()) == [BEGIN_LOOKAHEAD]


def test_a_first_draft_token_that_comes_too_late_still_tells_what_the_prompt_took() -> None:
    async def main() -> tuple[float | None, bool]:
        timed = Timed()
        timed.verdict(2)
        await timed.step()
        await asyncio.sleep(2 * FIRST)
        timed.verdict(3)
        timed.draft_token(2, 3)
        opened = timed.session.state.opening_seconds == 0.0
        return timed.measurements.opening_seconds(1), opened

    took, opened = in_virtual_time(main())
    assert took == pytest.approx(1.5 * FIRST)
    assert opened


def test_a_stream_that_goes_on_with_a_target_elsewhere_takes_turns_no_more() -> None:
    opening = Opening("test", (1, 2), SamplingParams(), 0, 100)
    session = DraftSession(opening, 1000, DraftMeasurements(), shares_cores=True)
    assert session.state.shares_cores
    session.share_cores(False)
    assert not session.state.shares_cores


async def told_after(*verdicts: tuple[int, ...]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """What is offered, and the news, once these came of which nobody asked anything between."""
    timed = await drafted(3, 4, 5)
    await timed.step()
    timed.session.advances.take_all()
    for tokens in verdicts:
        timed.verdict(*tokens)
    offered = await timed.session.take(Plan(4, lookahead=LOOKAHEAD))
    return offered.proposal.token_ids, [one.token_ids for one in timed.session.advances.take_all()]


@pytest.mark.parametrize(("verdicts", "left"), [(((3,), (4,)), (5,)), (((3,), (9,)), ())])
def test_what_was_decided_while_nobody_asked_counts_as_if_it_came_at_once(
    verdicts: tuple[tuple[int, ...], ...], left: tuple[int, ...]
) -> None:
    offered, news = in_virtual_time(told_after(*verdicts))
    assert offered == left
    together = in_virtual_time(told_after(tuple(token for one in verdicts for token in one)))
    assert (offered, news) == together


def test_a_stream_that_pauses_has_its_draft_stop_once_and_leaves_others_their_turn() -> None:
    """The turn to have draft tokens sent each at once, so that waits for them are measured."""

    async def main() -> tuple[list[int], bool]:
        timed = await drafted(3)
        timed.session.advances.take_all()
        told = []
        for token in (3, 4, 5):
            timed.verdict(token)
            await timed.session.take(Plan(0, continue_steps=15))
            told.append(len(timed.session.advances.take_all()))
        timed.measurements.count(1, rounds=WAIT_ROUNDS)
        timed.verdict(6)
        await timed.session.take(Plan(0, continue_steps=15))
        return told, timed.measurements.waits_are_stale()

    told, stale = in_virtual_time(main())
    assert told == [1, 0, 0]
    assert stale
