"""The pacer against all that is fixed, in virtual time: on worlds, and on the real pair's tokens.

What it is held to was found by `python -m benchmarks.policies --json benchmarks/policies.json`.
"""

import json
from functools import cache
from pathlib import Path

import pytest

import benchmarks.policies
from benchmarks.policies import CASES, DEPLOYMENTS, RECORDINGS, SEEDS, Case, paced, with_length
from paceline_tools.evaluation.prediction import adaptive, fixed, replay, speedups
from paceline_tools.evaluation.recording import load_recordings
from tests.marks import slow

OF_OPTIMUM = 0.95
OF_BEST_FIXED = 0.98
FIGURES = Path(benchmarks.policies.__file__).with_name("policies.json")
OPTIMUM = {(one["group"], one["name"]): one["optimum"] for one in json.loads(FIGURES.read_text())}
RECORDED = {one.candidate: one for one in load_recordings(RECORDINGS)}
BY_CASE = [case if at % 3 == 0 else slow(case)[0] for at, case in enumerate(CASES)]
KINDS = ("code", "chat", "prose", "edit")


@pytest.mark.parametrize("case", BY_CASE, ids=lambda case: f"{case.group}, {case.name}")
def test_it_comes_near_the_best_rule_of_each_phase_in_hindsight(case: Case) -> None:
    worlds = [case.world(seed) for seed in SEEDS]
    alone = sum(with_length(world, 0).seconds for world in worlds)
    speedup = alone / sum(paced(world).seconds for world in worlds)
    assert speedup > OF_OPTIMUM * OPTIMUM[case.group, case.name]


@cache
def paced_speed_ups(candidate: str, deployment: str) -> dict[str, float]:
    alone = replay(RECORDED[candidate], DEPLOYMENTS[deployment], fixed(0))
    return speedups(alone, replay(RECORDED[candidate], DEPLOYMENTS[deployment], adaptive, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deployment", list(DEPLOYMENTS))
@pytest.mark.parametrize("candidate", list(RECORDED))
def test_on_the_real_pair_it_keeps_up_with_the_best_length_of_each_kind(
    candidate: str, deployment: str, kind: str
) -> None:
    best = OPTIMUM[f"{candidate}, {deployment}", kind]
    assert paced_speed_ups(candidate, deployment)[kind] > OF_BEST_FIXED * best
