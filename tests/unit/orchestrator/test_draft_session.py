"""What a draft is told: how far ahead it may be, and which of its guesses may come together."""

import asyncio

import pytest

from orchestrator.draft_session import DraftSession
from orchestrator.plans import FixedPlan
from orchestrator.record import DraftRecord
from orchestrator.simulation import in_virtual_time
from paceline.path import TokenPath
from paceline.sampling import SamplingParams
from paceline.session import Advance, Drafter, Opening, Proposal, Verdict

LENGTH, WINDOW = 4, 6
PLAN = FixedPlan(LENGTH, LENGTH, 30.0, 0, WINDOW)


async def a_round(*, shares_cores: bool) -> tuple[Proposal, list[Advance]]:
    """The second round, in which four guesses come together; and all that the draft was told."""
    record = DraftRecord()
    for restart in (True, False):
        record.observe_wait(0.002, Drafter.MODEL, restart=restart)
    opening = Opening("r", (1,), SamplingParams(temperature=0.0), 0, 100)
    session = DraftSession(opening, 1000, record, shares_cores=shares_cores)
    session.advance(Verdict(1, (2,), arrived_seconds=0.1))
    taking = asyncio.create_task(session.take(PLAN))
    await asyncio.sleep(0)
    base = TokenPath((1, 2)).digest
    session.receive(Proposal(2, base, (3, 4, 5, 6), (1.0,) * 4, Drafter.MODEL))
    offered = await taking
    told = [session.advances.get_nowait() for _ in range(session.advances.qsize())]
    return offered, told


def test_guesses_that_only_end_a_wait_together_may_share_a_message() -> None:
    offered, told = in_virtual_time(a_round(shares_cores=False))
    assert offered.token_ids == (3, 4, 5, 6)
    assert told[0].awaited == LENGTH
    assert told[0].due_seconds
    assert list(told[0].due_seconds) == sorted(told[0].due_seconds)


@pytest.mark.parametrize(("shares_cores", "behind"), [(False, LENGTH), (True, 0)])
def test_the_window_lies_behind_what_is_verified_unless_they_share_cores(
    shares_cores: bool, behind: int
) -> None:
    _, told = in_virtual_time(a_round(shares_cores=shares_cores))
    assert max(one.window for one in told) == WINDOW + behind
