"""What a request leaves open of sampling is its model's, and what that leaves open is neutral."""

import dataclasses

import pytest

from paceline.errors import InvalidArgument
from paceline.protocol.sampling import Sampling, SamplingParams

MODEL = Sampling(temperature=0.6, top_k=20, top_p=0.9)


@pytest.mark.parametrize(
    ("asked", "default", "holds"),
    [
        (Sampling(), Sampling(), SamplingParams()),
        (Sampling(), MODEL, SamplingParams(0.6, 20, 0.9)),
        (Sampling(temperature=0.0), MODEL, SamplingParams(0.0, 20, 0.9)),
        (Sampling(1.0, 0, 1.0), MODEL, SamplingParams()),
        (Sampling(min_tokens=3), MODEL, SamplingParams(0.6, 20, 0.9, min_tokens=3)),
        (SamplingParams(), MODEL, SamplingParams()),
        (SamplingParams(logit_bias={1: 2.0}), MODEL, SamplingParams(logit_bias={1: 2.0})),
    ],
)
def test_what_is_said_goes_before_the_models_own(
    asked: Sampling, default: Sampling, holds: SamplingParams
) -> None:
    assert asked.over(default) == holds


def test_both_have_the_same_fields() -> None:
    """A field that is added to one is added to both."""
    names = [
        [field.name for field in dataclasses.fields(kind)] for kind in (Sampling, SamplingParams)
    ]
    assert names[0] == names[1]


def test_what_is_not_said_is_within_its_limits() -> None:
    Sampling().validate()
    MODEL.validate()
    with pytest.raises(InvalidArgument, match=r"^sampling\.top_p is 1\.5; it must"):
        Sampling(top_p=1.5).validate()
