"""The pacer against all that is fixed, in virtual time: on worlds, and on the real pair's guesses.

What it is held to was found by `python -m benchmarks.policies --json benchmarks/policies.json`.
"""

import json
from pathlib import Path

import pytest

import benchmarks.policies
from benchmarks.policies import CASES, PLACES, RECORDINGS, SEEDS, Case, paced, with_length
from paceline.evaluation.prediction import adaptive, fixed, replay, speed_ups
from paceline.evaluation.recording import Recording, load_recordings

OF_OPTIMUM = 0.95
OF_BEST_FIXED = 0.98
FIGURES = Path(benchmarks.policies.__file__).with_name("policies.json")
OPTIMUM = {(one["group"], one["name"]): one["optimum"] for one in json.loads(FIGURES.read_text())}
PAIRS = [(recording, place) for recording in load_recordings(RECORDINGS) for place in PLACES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}, {case.name}")
def test_it_comes_near_the_best_rule_of_each_phase_in_hindsight(case: Case) -> None:
    worlds = [case.world(seed) for seed in SEEDS]
    alone = sum(with_length(world, 0).seconds for world in worlds)
    speed_up = alone / sum(paced(world).seconds for world in worlds)
    assert speed_up > OF_OPTIMUM * OPTIMUM[case.group, case.name]


@pytest.mark.parametrize(
    ("recording", "place"), PAIRS, ids=[f"{one.candidate}, {place}" for one, place in PAIRS]
)
def test_on_the_real_pair_it_keeps_up_with_the_best_length_of_each_kind(
    recording: Recording, place: str
) -> None:
    alone = replay(recording, PLACES[place], fixed(0))
    auto = speed_ups(alone, replay(recording, PLACES[place], adaptive, 2))
    for kind in recording.kinds:
        best = OPTIMUM[f"{recording.candidate}, {place}", kind]
        assert auto[kind] > OF_BEST_FIXED * best, kind
