"""When a stream leaves its draft."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.backends.draft_link import DraftLink
from orchestrator.backends.draft_session import DraftSession
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from paceline.errors import InvalidArgument
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath

STAYS: Any = SimpleNamespace(move=lambda *_: None, holding=lambda *_: None)


def opening(tokens: int) -> Opening:
    return Opening("r", (1,), SamplingParams(temperature=0.0), 0, tokens)


def drafted_to_the_end(tokens: int) -> DraftSession:
    """A draft with positions for so many tokens of output has drafted all but the last one."""
    session = DraftSession(opening(tokens), 1000, DraftMeasurements(), shares_cores=False)
    session.receive(Proposal(1, TokenPath((1,)).digest, (7,) * (tokens - 1)))
    assert session.is_full
    return session


def link(remaining: int) -> DraftLink:
    stream: Any = SimpleNamespace(output=(), remaining=remaining)
    model: Any = None
    return DraftLink(STAYS, STAYS, model, opening(10), stream, lookahead=None, seconds=1.0)


async def test_a_draft_that_has_drafted_the_rest_of_the_output_is_kept() -> None:
    pool: Any = None
    assert link(remaining=10)._other(pool, drafted_to_the_end(10), ()) is None


async def test_a_draft_with_fewer_positions_than_the_stream_is_left_once_they_are_used_up() -> None:
    pool: Any = None
    with pytest.raises(InvalidArgument, match="positions are used up"):
        link(remaining=10)._other(pool, drafted_to_the_end(6), ())
