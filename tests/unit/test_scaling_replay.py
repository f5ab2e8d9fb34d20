"""benchmarks/scaling: what is wanted of the recorded load, step by step."""

import itertools
import json

import pytest

from benchmarks.scaling import RECORDING, looks, queries, replay, scaled_objects, turns

LINES = json.loads(RECORDING.read_text())


@pytest.fixture(scope="module")
def replicas() -> dict[str, list[int]]:
    return replay(LINES)


def test_the_recording_is_of_the_queries_there_are() -> None:
    assert queries().keys() | {"latency", "clients"} == LINES.keys()


def test_each_role_follows_the_load_and_goes_back(replicas: dict[str, list[int]]) -> None:
    for role, one in scaled_objects().items():
        fewest, found = one["spec"]["minReplicaCount"], replicas[role]
        assert found[0] == found[-1] == fewest
    assert max(replicas["draft"]) >= 4
    assert max(replicas["target"]) >= 3


def test_drafts_go_from_zero_and_back(replicas: dict[str, list[int]]) -> None:
    drafts = replicas["draft"]
    assert drafts[0] == drafts[-1] == 0
    assert {1, 2, 3} <= set(drafts)


def test_nothing_flaps(replicas: dict[str, list[int]]) -> None:
    # The load swings between 36 and 60 clients; each role goes up once, and then down.
    for found in replicas.values():
        assert turns(found) <= 1
        assert len(found) == looks(LINES)


def test_turns_are_counted() -> None:
    assert turns([1, 1, 2, 4, 4]) == 0
    assert turns([1, 2, 1, 1, 2]) == 2
    flapping = list(itertools.chain.from_iterable([1, 4] for _ in range(5)))
    assert turns(flapping) == 8
