"""What all streams know together of a target, and of its drafts."""

from orchestrator.speculation.measurements import (
    PLAIN_ROUNDS,
    WAIT_ROUNDS,
    WAIT_STEPS,
    DraftRecord,
    TargetRecord,
)
from paceline.protocol.proposal import Drafter


def test_a_plain_step_is_measured_again_after_so_many_rounds_of_each_stream() -> None:
    record = TargetRecord()
    assert record.plain_is_stale(0)
    record.observe_plain(0.025, 0)
    record.observe_plain(0.025, 3)
    for _ in range(PLAIN_ROUNDS):
        assert not record.plain_is_stale(0)
        record.count(4)
    assert record.plain_is_stale(0)
    assert not record.plain_is_stale(3)
    for _ in range(3 * PLAIN_ROUNDS):
        assert not record.plain_is_stale(3)
        record.count(4)
    assert record.plain_is_stale(3)


def test_one_round_in_so_many_has_its_guesses_at_once_and_all_until_they_are_known() -> None:
    record = DraftRecord()
    assert record.may_observe_waits()
    assert record.may_observe_waits()
    for restart in (True, False):
        record.observe_wait(0.002, Drafter.MODEL, restart=restart)
    turns = []
    for _ in range(3 * WAIT_ROUNDS):
        record.count(4)
        turns.append(record.may_observe_waits())
    assert sum(turns) == 3


def test_beside_many_streams_fewer_rounds_have_their_guesses_at_once() -> None:
    record = DraftRecord()
    for restart in (True, False):
        record.observe_wait(0.002, Drafter.MODEL, restart=restart)
    turns = []
    for _ in range(2 * WAIT_STEPS * 64):
        record.count(4)
        turns.append(record.may_observe_waits(sessions=64))
    assert sum(turns) == 2
