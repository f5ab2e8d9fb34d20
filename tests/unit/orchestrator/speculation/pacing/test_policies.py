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
from paceline_tools.evaluation.recording import Recording, load_recordings
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


SHORT = 64
DEAR = {"near": (1, 1, 1), "far, slow": (1, 3, 5), "fast target": (0.2, 1, 1)}
"""How many times the step and the round trips to target and draft take as long."""


def shortened(recording: Recording, step: float, target: float, draft: float) -> Recording:
    """Outputs of SHORT tokens, at other costs."""
    was = recording.target_costs
    costs = {
        "verify": {count: step * seconds for count, seconds in was.verify.items()},
        "round_trip": target * was.round_trip,
        "verify_token": step * was.verify_token,
        "prompt_token": step * was.prompt_token,
    }
    restart = draft * recording.draft_costs.restart
    return recording.model_copy(
        update={
            "target_costs": was.model_copy(update=costs),
            "draft_costs": recording.draft_costs.model_copy(update={"restart": restart}),
            "outputs": tuple(one.head(SHORT) for one in recording.outputs),
        }
    )


@pytest.mark.parametrize("costs", DEAR.values(), ids=DEAR)
def test_lookup_alone_is_never_slower_on_short_outputs_that_repeat_nothing(
    costs: tuple[float, float, float],
) -> None:
    recording = shortened(RECORDED["ngram"], *costs)
    alone = replay(recording, DEPLOYMENTS["shared cores"], fixed(0))
    found = speedups(alone, replay(recording, DEPLOYMENTS["shared cores"], adaptive, 2))
    assert {kind: found[kind] >= 0.995 for kind in KINDS} == dict.fromkeys(KINDS, True)
    assert found["edit"] > 2.3
