"""The arithmetic of autoscalers: as Kubernetes and KEDA document it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline_tools.scaling import (
    DEFAULT_DOWN,
    Autoscaler,
    Policy,
    Rules,
    State,
    Trigger,
    Unit,
    autoscaler,
    desired,
    step,
)

ONE = (Trigger(1.0),)


def run(scaler: Autoscaler, state: State, totals: list[float | None], every: float) -> list[int]:
    """Replicas after each look, of one metric."""
    found = []
    for index, total in enumerate(totals):
        state = step(scaler, state, index * every, [total])
        found.append(state.replicas)
    return found


@pytest.mark.parametrize(
    ("replicas", "mean", "target", "wanted"),
    [
        # The page's examples: 200m where 100m is wanted doubles, 50m halves.
        (2, 0.2, 0.1, 4),
        (2, 0.05, 0.1, 1),
        # Near enough to 1.0, within a tolerance of 0.1 by default.
        (10, 1.09, 1.0, 10),
        (10, 0.91, 1.0, 10),
        (10, 1.11, 1.0, 12),
        (10, 0.89, 1.0, 9),
        (3, 1.34, 1.0, 5),
    ],
)
def test_replicas_are_the_ratio_rounded_up(
    replicas: int, mean: float, target: float, wanted: int
) -> None:
    assert desired(replicas, mean * replicas, target) == wanted


def test_of_several_metrics_the_most_is_taken_and_one_that_is_lost_lets_none_go() -> None:
    scaler = Autoscaler(
        (Trigger(1.0), Trigger(10.0)), 1, 100, down=Rules(0.0, DEFAULT_DOWN.policies)
    )
    assert step(scaler, State(4), 0.0, [2.0, 60.0]).replicas == 6
    assert step(scaler, State(4), 0.0, [2.0, 10.0]).replicas == 2
    assert step(scaler, State(4), 0.0, [2.0, None]).replicas == 4
    assert step(scaler, State(4), 0.0, [7.0, None]).replicas == 7


def test_up_it_doubles_or_adds_four_every_15_seconds() -> None:
    scaler = Autoscaler(ONE, 1, 100)
    assert run(scaler, State(1), [50.0] * 6, 15.0) == [5, 10, 20, 40, 50, 50]


def test_down_it_waits_until_nothing_more_was_wanted_for_five_minutes() -> None:
    scaler = Autoscaler(ONE, 1, 100)
    totals: list[float | None] = [10.0, 10.0, *[2.0] * 25]
    found = run(scaler, State(10), totals, 15.0)
    # The last 10 was wanted at 15 s.
    assert found.index(2) == (15 + 300) // 15
    assert set(found) == {10, 2}


def test_policies_down_are_the_example_of_the_page() -> None:
    # 4 pods or 10 percent a minute, whichever is more: 80 to 10.
    policies = Policy(Unit.PODS, 4, 60.0), Policy(Unit.PERCENT, 10, 60.0)
    scaler = Autoscaler(ONE, 1, 100, down=Rules(0.0, policies))
    found = run(scaler, State(80), [10.0] * 20, 60.0)
    # "8 replicas will be reduced", then of 72 again 8; below 40 it is 4 at a time.
    assert found[:3] == [72, 64, 57]
    below = [one for one in found if one < 40]
    steps = [before - after for before, after in pairwise(below) if after > 10]
    assert set(steps) == {4}
    assert found[-1] == 10


def test_a_window_up_takes_the_least_that_was_wanted() -> None:
    up = Rules(60.0, (Policy(Unit.PERCENT, 1000, 15.0),))
    scaler = Autoscaler(ONE, 1, 100, up=up)
    totals: list[float | None] = [2.0, 9.0, 9.0, 9.0, 9.0]
    assert run(scaler, State(2), totals, 15.0) == [2, 2, 2, 2, 9]


def test_it_stays_within_its_bounds() -> None:
    scaler = Autoscaler(ONE, 2, 5, down=Rules(0.0, DEFAULT_DOWN.policies))
    assert run(scaler, State(3), [100.0, 0.0], 15.0) == [5, 2]


def test_below_its_activation_threshold_there_is_none_whatever_the_threshold_says() -> None:
    # KEDA's page: threshold 10, activationThreshold 50, 40 messages: not active, scaled to zero,
    # even if 4 replicas would be needed.
    scaler = Autoscaler((Trigger(10.0, activation=50.0),), 0, 100)
    assert run(scaler, State(0), [40.0, 50.0, 51.0, 51.0], 30.0) == [0, 0, 1, 5]


def test_to_zero_it_goes_when_nothing_was_wanted_for_the_cooldown() -> None:
    scaler = Autoscaler(ONE, 0, 10, cooldown_seconds=300.0)
    found = run(scaler, State(0), [0.0, 1.0, *[0.0] * 12, 1.0], 30.0)
    assert found == [0, *[1] * 10, 0, 0, 0, 1]


def test_a_load_that_swings_within_the_window_does_not_flap() -> None:
    scaler = Autoscaler((Trigger(16.0),), 0, 8)
    totals: list[float | None] = [60.0 if index % 4 else 20.0 for index in range(80)]
    found = run(scaler, State(1), totals, 15.0)
    assert found[0] == 2
    assert set(found[1:]) == {4}


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1000)), min_size=1, max_size=60),
    st.integers(0, 3),
    st.integers(4, 20),
)
def test_whatever_is_measured_it_stays_within_bounds(
    totals: list[float | None], fewest: int, most: int
) -> None:
    found = run(Autoscaler((Trigger(7.0, 3.0),), fewest, most), State(fewest), totals, 15.0)
    assert all(fewest <= one <= most for one in found)


def test_it_is_read_from_manifests() -> None:
    behavior = {
        "scaleDown": {
            "stabilizationWindowSeconds": 600,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        }
    }
    keda = {
        "kind": "ScaledObject",
        "spec": {
            "minReplicaCount": 0,
            "maxReplicaCount": 8,
            "cooldownPeriod": 200,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [{"metadata": {"threshold": "16", "activationThreshold": "2"}}],
        },
    }
    hpa = {
        "kind": "HorizontalPodAutoscaler",
        "spec": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [{"type": "Pods", "pods": {"target": {"averageValue": "750m"}}}],
        },
    }
    down = Rules(600, (Policy(Unit.PODS, 1, 60),))
    assert autoscaler(keda) == Autoscaler(
        (Trigger(16.0, 2.0),), 0, 8, down=down, cooldown_seconds=200
    )
    assert autoscaler(hpa) == Autoscaler((Trigger(0.75),), 2, 4)
