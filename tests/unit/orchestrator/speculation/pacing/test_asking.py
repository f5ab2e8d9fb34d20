"""When lookup is asked before a step, and when it is heard by the way."""

from orchestrator.speculation.estimates.lookup import LookupMeasurements
from orchestrator.speculation.pacing.asking import Asking
from paceline.protocol.verdict import TimedVerdict, Verdict

STEP, TRIP = 0.02, 0.003
MISS = TimedVerdict(Verdict(0, (1,), step_seconds=STEP))
HIT = TimedVerdict(Verdict(0, (1, 2), verified=1, accepted=1, step_seconds=STEP))


def rounds_of_misses(asking: Asking, count: int) -> None:
    for _ in range(count):
        asking.observe(MISS, STEP + (TRIP if asking.decide() else 0.0))


def test_it_is_asked_first_until_it_helps_too_seldom_for_its_wait() -> None:
    asking = Asking(LookupMeasurements())
    assert asking.decide()
    rounds_of_misses(asking, 10)
    # Half of the six rounds it begins with, before ten misses: it still helps in more than 3 of 20.
    assert asking.decide()
    rounds_of_misses(asking, 20)
    assert not asking.decide()


def test_what_asking_takes_is_measured_only_where_it_was_asked() -> None:
    lookup = LookupMeasurements()
    asking = Asking(lookup)
    rounds_of_misses(asking, 100)
    assert lookup.asking.value is not None
    assert abs(lookup.asking.value - TRIP) < 1e-9


def test_behind_accepted_draft_tokens_it_is_asked() -> None:
    asking = Asking(LookupMeasurements())
    rounds_of_misses(asking, 200)
    assert not asking.decide()
    asking.observe(HIT, STEP)
    assert asking.decide()


def test_a_new_stream_begins_with_what_others_found() -> None:
    lookup = LookupMeasurements()
    rounds_of_misses(Asking(lookup), 300)
    later = Asking(lookup)
    rounds_of_misses(later, 1)  # nothing is known of its steps before
    assert not later.decide()
