"""How many replicas do Kubernetes and KEDA want? Their arithmetic as pure functions; no cluster.

A HorizontalPodAutoscaler: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale
with metrics of the type AverageValue, whose total over all pods is handed in. KEDA makes one of a
ScaledObject, and goes by itself from 0 and to 0: https://keda.sh/docs/latest/concepts/scaling-deployments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

TOLERANCE = 0.1
SYNC_SECONDS = 15.0
"""How often an autoscaler looks, unless its cluster says otherwise."""


class Unit(StrEnum):
    """What a policy limits a change by."""

    PODS = "Pods"
    PERCENT = "Percent"


@dataclass(frozen=True, slots=True)
class Policy:
    """At most so many pods, or percent of them, within a period."""

    unit: Unit
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one direction: for how long a number has to hold, and the policy that allows most."""

    stabilization_seconds: float
    policies: tuple[Policy, ...]


DEFAULT_UP = Rules(0.0, (Policy(Unit.PERCENT, 100, 15.0), Policy(Unit.PODS, 4, 15.0)))
DEFAULT_DOWN = Rules(300.0, (Policy(Unit.PERCENT, 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Trigger:
    """A metric: how much of it each replica takes, and, of KEDA, above what it wakes one from 0."""

    target: float
    activation: float = 0.0


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """One role's. Fewest 0 is KEDA's alone; cooldown: from the last total that wakes to 0."""

    triggers: tuple[Trigger, ...]
    fewest: int
    most: int
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN
    tolerance: float = TOLERANCE
    cooldown_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class State:
    """What it has at a time, and what it remembers: times with numbers."""

    replicas: int
    wanted: tuple[tuple[float, int], ...] = ()
    changes: tuple[tuple[float, int], ...] = ()
    active_seconds: float = field(default=-math.inf)


def desired(replicas: int, total: float, target: float, tolerance: float = TOLERANCE) -> int:
    """ceil(total / target), or `replicas` where the mean of those is within tolerance of target."""
    if replicas and abs(total / (target * replicas) - 1) <= tolerance:
        return replicas
    return math.ceil(total / target)


def step(scaler: Autoscaler, state: State, now: float, totals: Sequence[float | None]) -> State:
    """What it has after a look at `now` at the total of each trigger; None: not to be had."""
    state = _noticed(scaler, state, now, totals)
    if scaler.fewest == 0:
        idle = now - state.active_seconds
        if state.replicas == 0 and idle > 0:
            return state
        if state.replicas and idle >= scaler.cooldown_seconds:
            return replace(state, replicas=0, wanted=(), changes=())
    floor = max(1, scaler.fewest)
    if state.replicas < floor:
        return replace(state, replicas=floor, wanted=((now, floor),))
    raw = _wanted(scaler, state.replicas, totals)
    state = replace(state, wanted=(*state.wanted, (now, raw)))
    stable = _stabilized(scaler, state, now, raw)
    changed = min(max(_limited(scaler, state, now, stable), floor), scaler.most)
    if changed == state.replicas:
        return state
    change = (now, changed - state.replicas)
    return replace(state, replicas=changed, changes=(*state.changes, change))


def _noticed(scaler: Autoscaler, state: State, now: float, totals: Sequence[float | None]) -> State:
    """The state, without what is too old to matter, and awake where a total is over its bound."""
    awake = any(
        total is not None and total > trigger.activation
        for total, trigger in zip(totals, scaler.triggers, strict=True)
    )
    periods = [one.period_seconds for one in (*scaler.up.policies, *scaler.down.policies)]
    kept = max(scaler.up.stabilization_seconds, scaler.down.stabilization_seconds)
    return replace(
        state,
        wanted=tuple(one for one in state.wanted if one[0] > now - kept),
        changes=tuple(one for one in state.changes if one[0] > now - max(periods, default=0.0)),
        active_seconds=now if awake else state.active_seconds,
    )


def _wanted(scaler: Autoscaler, replicas: int, totals: Sequence[float | None]) -> int:
    """The most that a metric asks for. Where one is missing, none goes."""
    known = [
        desired(replicas, total, trigger.target, scaler.tolerance)
        for total, trigger in zip(totals, scaler.triggers, strict=True)
        if total is not None
    ]
    lost = len(known) < len(totals)
    most = max(known, default=replicas)
    return max(most, replicas) if lost else most


def _stabilized(scaler: Autoscaler, state: State, now: float, raw: int) -> int:
    """No more than the least, no fewer than the most, that was wanted within the windows."""
    least = most = raw
    for at, one in state.wanted:
        if at > now - scaler.up.stabilization_seconds:
            least = min(least, one)
        if at > now - scaler.down.stabilization_seconds:
            most = max(most, one)
    return min(max(state.replicas, least), most)


def _limited(scaler: Autoscaler, state: State, now: float, aim: int) -> int:
    """As near to the aim as the policies allow."""
    if aim > state.replicas:
        tops = [_top(one, state, now) for one in scaler.up.policies]
        return min(aim, max(*tops, state.replicas))
    bottoms = [_bottom(one, state, now) for one in scaler.down.policies]
    return max(aim, min(*bottoms, state.replicas))


def _top(policy: Policy, state: State, now: float) -> int:
    added = sum(by for at, by in _recent(policy, state, now) if by > 0)
    begun = state.replicas - added
    if policy.unit is Unit.PODS:
        return begun + policy.value
    return math.ceil(begun * (100 + policy.value) / 100)


def _bottom(policy: Policy, state: State, now: float) -> int:
    removed = sum(-by for at, by in _recent(policy, state, now) if by < 0)
    begun = state.replicas + removed
    if policy.unit is Unit.PODS:
        return begun - policy.value
    return math.floor(begun * (100 - policy.value) / 100)


def _recent(policy: Policy, state: State, now: float) -> list[tuple[float, int]]:
    return [one for one in state.changes if one[0] > now - policy.period_seconds]


def autoscaler(manifest: dict[str, Any]) -> Autoscaler:
    """That of a ScaledObject or HorizontalPodAutoscaler, of metrics of the type AverageValue."""
    spec = manifest["spec"]
    if manifest["kind"] == "ScaledObject":
        config = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
        return Autoscaler(
            tuple(_trigger(one["metadata"]) for one in spec["triggers"]),
            spec.get("minReplicaCount", 0),
            spec.get("maxReplicaCount", 100),
            *_behavior(config.get("behavior", {})),
            cooldown_seconds=spec.get("cooldownPeriod", 300),
        )
    metrics = [one[one["type"].lower()]["target"]["averageValue"] for one in spec["metrics"]]
    return Autoscaler(
        tuple(Trigger(_quantity(one)) for one in metrics),
        spec.get("minReplicas", 1),
        spec["maxReplicas"],
        *_behavior(spec.get("behavior", {})),
    )


def _trigger(metadata: dict[str, str]) -> Trigger:
    return Trigger(float(metadata["threshold"]), float(metadata.get("activationThreshold", 0)))


def _quantity(value: str | int) -> float:
    text = str(value)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _behavior(given: dict[str, Any]) -> tuple[Rules, Rules]:
    return _rules(given.get("scaleUp", {}), DEFAULT_UP), _rules(
        given.get("scaleDown", {}), DEFAULT_DOWN
    )


def _rules(given: dict[str, Any], default: Rules) -> Rules:
    policies = tuple(
        Policy(Unit(one["type"]), one["value"], one["periodSeconds"])
        for one in given.get("policies", ())
    )
    seconds = given.get("stabilizationWindowSeconds", default.stabilization_seconds)
    return Rules(seconds, policies or default.policies)
