"""Which target a stream gets after some refused it, and what is said when none is left."""

from typing import Any, cast

import pytest

from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import MISSES, Replica, ReplicaHealth
from orchestrator.backends.target_failover import _pick
from paceline.errors import InvalidArgument, PacelineError, ResourceExhausted, Unavailable
from paceline.protocol.model import ModelInfo
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening

MODEL = ModelInfo("big", "print", "words", 100, 1000, (), 1, True, "here")
OPENING = Opening("failover", (1, 2), SamplingParams(), 0, 8, fingerprint="print")
SMALL, FULL = InvalidArgument("never"), ResourceExhausted("not now")


def pool(*reachable: bool) -> tuple[Pool, list[Replica]]:
    found, channel = Pool(()), cast("Any", None)
    replicas = [
        Replica(f"unix:/{index}", channel, MODEL, health=ReplicaHealth(0 if here else MISSES))
        for index, here in enumerate(reachable)
    ]
    found._servers = replicas
    return found, replicas


def test_those_that_refused_are_not_asked_again() -> None:
    targets, (one, two) = pool(True, True)
    assert _pick(targets, OPENING, {one: FULL}, begun=False) is two
    assert _pick(targets, OPENING, {two: SMALL}, begun=True) is one


@pytest.mark.parametrize(
    ("said", "away", "begun", "expected"),
    [
        ([SMALL], 0, False, InvalidArgument),
        ([FULL], 0, False, ResourceExhausted),
        ([FULL, SMALL], 0, False, ResourceExhausted),
        ([SMALL, FULL], 0, False, ResourceExhausted),
        # One that is away may be larger.
        ([SMALL], 1, False, Unavailable),
        ([FULL], 1, False, ResourceExhausted),
        # Nobody gives up what has begun.
        ([SMALL], 0, True, Unavailable),
        ([FULL], 0, True, Unavailable),
        ([], 1, False, Unavailable),
    ],
)
def test_what_is_said_when_none_is_left(
    said: list[PacelineError], away: int, begun: bool, expected: type[PacelineError]
) -> None:
    targets, replicas = pool(*[True] * len(said), *[False] * away)
    refused = dict(zip(replicas, said, strict=False))
    with pytest.raises(expected) as raised:
        _pick(targets, OPENING, refused, begun=begun)
    assert type(raised.value) is expected
