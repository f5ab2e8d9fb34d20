"""What orchestrator, draft and target tell each other arrives, every field of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, Proposal
from paceline.protocol.session import CostModel, Load, Progress
from paceline.protocol.verdict import TokenLogprob, TokenLogprobs, Verdict, Verify
from paceline.rpc.codec.advance import advance_from_proto, advance_to_proto
from paceline.rpc.codec.proposal import proposal_from_proto, proposal_to_proto
from paceline.rpc.codec.session import (
    load_from_proto,
    load_to_proto,
    progress_from_proto,
    progress_to_proto,
)
from paceline.rpc.codec.verdict import (
    verdict_from_proto,
    verdict_to_proto,
    verify_from_proto,
    verify_to_proto,
)

VOCABULARY = 100
PROPOSAL = Proposal(3, 2**63 + 1, (7, 8), (0.5, 0.25), Drafter.NGRAM, (5, 8))
LOAD = Load(1, 2, 3, 4, 5, 6)
VERDICT = Verdict(
    position=3,
    token_ids=(7, 9),
    verified=2,
    accepted=1,
    step_seconds=0.5,
    load=LOAD,
    cost_model=CostModel(0.5, 0.25, 0.125),
    logprobs=(TokenLogprobs(-0.5, (TokenLogprob(7, -0.5, "a"),)), TokenLogprobs(-0.25)),
    cached_tokens=6,
    sampling_seconds=0.125,
    queue_seconds=0.25,
    waited_seconds=0.375,
    branch_verified=3,
    branch_accepted=1,
)

Codec = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("value", "to_proto", "from_proto"),
    [
        (
            Advance(3, (7,), 4, 5, (0.25, 0.5), 2, 1),
            advance_to_proto,
            lambda message: advance_from_proto(message, VOCABULARY),
        ),
        (PROPOSAL, proposal_to_proto, proposal_from_proto),
        (
            Verify(PROPOSAL, 15, (PROPOSAL,)),
            verify_to_proto,
            lambda message: verify_from_proto(message, VOCABULARY),
        ),
        (LOAD, load_to_proto, load_from_proto),
        (Progress(1, 2, LOAD, waiting=True), progress_to_proto, progress_from_proto),
        (VERDICT, verdict_to_proto, verdict_from_proto),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_field_arrives(value: Any, to_proto: Codec, from_proto: Codec) -> None:
    for field in dataclasses.fields(value):
        assert getattr(value, field.name) not in {field.default, None, 0}
    assert from_proto(to_proto(value)) == value
