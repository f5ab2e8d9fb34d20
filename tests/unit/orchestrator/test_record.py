"""What all streams know together of a target."""

from orchestrator.record import PLAIN_ROUNDS, TargetRecord


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
