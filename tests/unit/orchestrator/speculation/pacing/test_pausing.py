"""When a paused stream probes, and when it goes on; and what load it sees."""

import pytest

from orchestrator.speculation.estimates.batch_load import SHARED_ROUNDS, BatchLoad, load_bucket
from orchestrator.speculation.pacing.pausing import (
    IDLE_ROUNDS,
    MAX_IDLE_ROUNDS,
    MAX_PROBE_TOKENS,
    PROBE_ROUNDS,
    PROBE_TOKENS,
    Pausing,
)
from orchestrator.speculation.reason import Reason
from paceline.protocol.session import Load
from paceline.protocol.verdict import Verdict


def probed(pausing: Pausing) -> int:
    """Tokens until the next probe, all of whose rounds are made then."""
    tokens = 0
    while pausing.reason is not Reason.PROBING:
        pausing.count(1)
        tokens += 1
    assert [pausing.observe_probe() for _ in range(PROBE_ROUNDS)] == [False] * (
        PROBE_ROUNDS - 1
    ) + [True]
    return tokens


def test_probes_in_vain_become_rare_and_one_that_pays_ends_the_pause() -> None:
    pausing = Pausing(benched=False)
    assert pausing.reason is None
    pausing.pause(Reason.PAUSED_SPEEDUP)
    assert pausing.reason is Reason.PAUSED_SPEEDUP
    waits = []
    for _ in range(5):
        waits.append(probed(pausing))
        pausing.probe_later()
        pausing.pause(Reason.PAUSED_ACCEPTANCE)
        assert pausing.reason is Reason.PAUSED_ACCEPTANCE
    expected = [PROBE_TOKENS * 2**index for index in range(5)]
    assert waits == [min(MAX_PROBE_TOKENS, tokens) for tokens in expected]
    pausing.go_on()
    assert pausing.reason is None
    pausing.pause(Reason.PAUSED_SPEEDUP)
    assert probed(pausing) == PROBE_TOKENS


def test_a_stream_whose_draft_is_benched_begins_paused_for_long() -> None:
    pausing = Pausing(benched=True)
    assert pausing.reason is Reason.PAUSED_BENCHED
    assert probed(pausing) == MAX_PROBE_TOKENS


@pytest.mark.parametrize(("worth", "most"), [(False, IDLE_ROUNDS), (True, MAX_IDLE_ROUNDS)])
def test_a_stream_stops_asking_after_rounds_that_brought_nothing(worth: bool, most: int) -> None:
    pausing = Pausing(benched=False)
    for useful in (False, True):
        pausing.observe_round(useful=useful)
    for _ in range(most):
        assert not pausing.has_idled(lambda: worth)
        pausing.observe_round(useful=False)
    assert pausing.has_idled(lambda: worth)


def test_a_step_shared_with_others_counts_for_some_rounds() -> None:
    load = BatchLoad()
    shared = Verdict(0, (1,), load=Load(sessions=4, batched_tokens=4))
    missed = Verdict(0, (1,), load=Load(sessions=4, batched_tokens=1))
    assert load.observe(shared)
    for _ in range(SHARED_ROUNDS - 2):
        assert not load.observe(missed)
        assert load.others == 3
    assert load.observe(missed)
    assert load.others == 0


def test_loads_are_in_buckets() -> None:
    assert [load_bucket(others) for others in (0, 1, 2, 3, 4, 7, 8)] == [0, 1, 2, 2, 3, 3, 4]
