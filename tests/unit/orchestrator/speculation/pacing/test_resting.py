"""A pacer that rests: what it planned holds until the steps asked for are over."""

from orchestrator.speculation.estimates.measurements import BENCH_STREAMS, DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.plan import TARGET_ONLY_STEPS, DraftState


def test_a_pacer_rests_while_it_pauses_and_not_before_it_has_planned_so() -> None:
    measurements = DraftMeasurements()
    for _ in range(BENCH_STREAMS):
        measurements.observe_outcome(given_up=True)
    pacer = AdaptivePacer(measurements, 8, 1.0)
    assert not pacer.rests
    plan = pacer.plan(100, DraftState(ready=True))
    assert (plan.at_most, plan.continue_steps) == (0, TARGET_ONLY_STEPS - 1)
    assert pacer.rests
    pacer.plan(100, DraftState(ready=False))
    assert not pacer.rests
