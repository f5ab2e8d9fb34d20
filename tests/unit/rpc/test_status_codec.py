"""Status messages there and back."""

import pytest

from paceline.machine import describe_machine
from paceline.protocol.status import Interval, Shadow, ShadowCounts, ShadowTimes, Status
from paceline.rpc.codec.status import status_from_proto, status_to_proto

WHOLE = Shadow(
    name="candidate",
    addresses=("a:1", "b:2"),
    share=0.25,
    model="small",
    hindrance="none is ready",
    counts=ShadowCounts(1, 2, 3, 4, 5),
    outputs=6,
    tokens=7,
    acceptance=Interval(0.5, 0.25, 0.75),
    draft_rate=0.5,
    times=ShadowTimes(0.125, 0.25, 0.5, 1.0),
    shares_cores=True,
    free=True,
)


@pytest.mark.parametrize("shadow", [WHOLE, Shadow(name="new")])
def test_what_is_known_of_a_candidate_arrives(shadow: Shadow) -> None:
    status = Status(describe_machine(), (), shadows=(shadow,))
    assert status_from_proto(status_to_proto(status)) == status
