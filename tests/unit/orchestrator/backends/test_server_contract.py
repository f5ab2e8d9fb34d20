"""What honest servers say is let through, however it comes; what goes beyond that is not."""

import pytest

from orchestrator.backends.draft_session import MOST_ADVANCES, DraftSession
from orchestrator.backends.server_contract import (
    MOST_STRAYS,
    BrokenContract,
    DraftContract,
    SignsOfLife,
)
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.plan import Plan
from paceline.protocol.advance import Advance
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TimedVerdict, Verdict
from paceline_tools.simulation.clock import in_virtual_time

OPENING = Opening("r", (1, 2), SamplingParams(), 0, 1000)
VOCABULARY = 100


def told(*lookaheads: int) -> DraftContract:
    contract = DraftContract(OPENING, VOCABULARY)
    for place, lookahead in enumerate(lookaheads):
        contract.grant(Advance(2 + place, (5,), lookahead))
    return contract


def test_a_lookahead_may_be_filled_anew_behind_each_advance() -> None:
    contract = told(*[8] * 20)
    for place in range(20):
        contract.check_message([(3 + place, 1, 1, 0)] * 8)


def test_nothing_is_proposed_before_it_is_granted() -> None:
    with pytest.raises(BrokenContract, match="more than it was granted"):
        told().check_message([(2, 1, 1, 0)])


def test_what_is_under_way_is_bounded_however_long_the_stream_is() -> None:
    contract = told(*[8] * 900)
    with pytest.raises(BrokenContract, match="more than it was granted"):
        contract.check_message([(2, 1, 1, 0)] * 20_000)


def test_a_stray_now_and_then_is_none_too_many() -> None:
    contract = told(8)
    for place in range(10 * MOST_STRAYS + 2):
        contract.note_base(known=place % MOST_STRAYS == 0)
    for _ in range(MOST_STRAYS - 1):
        contract.note_base(known=False)
    with pytest.raises(BrokenContract, match="path of its own"):
        contract.note_base(known=False)


def test_signs_of_life_may_be_read_late_and_all_at_once() -> None:
    signs = SignsOfLife(0.0)
    for _ in range(2464):
        signs.note(600.0)
    with pytest.raises(BrokenContract):
        signs.note(600.0)


def test_a_draft_that_does_not_read_is_told_later_what_was_decided() -> None:
    async def main() -> tuple[int, list[Advance]]:
        session = DraftSession(OPENING, VOCABULARY, DraftMeasurements(), shares_cores=False)
        plan = Plan(4, lookahead=6)

        async def verdicts(first: int, count: int) -> None:
            for position in range(first, first + count):
                session.advance(TimedVerdict(Verdict(position, (position % VOCABULARY,))))
                await session.take(plan)

        await verdicts(2, 500)
        said = session.advances.take_all()
        await verdicts(502, 1)
        return len(said), said + session.advances.take_all()

    waiting, said = in_virtual_time(main())
    assert waiting == MOST_ADVANCES
    tokens = [token for advance in said for token in advance.token_ids]
    assert tokens == [position % VOCABULARY for position in range(2, 503)]
    assert said[-1].position == 2 + MOST_ADVANCES
