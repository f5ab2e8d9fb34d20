"""What the spans of a stream say of its steps."""

from collections.abc import Iterator
from typing import Self

import pytest

from orchestrator.serving.output import OutputStream
from orchestrator.serving.traces import stream_span
from paceline.protocol.generation import Speculation
from paceline.protocol.verdict import Verdict
from paceline.tracing import span as module
from paceline.tracing.span import Attributes, TraceSpan
from tests.unit.orchestrator.serving.test_output import emit, make_stream

BRANCHES = ("paceline.branch_verified", "paceline.branch_accepted")


class NotedSpan(TraceSpan):
    """Keeps what it is told."""

    recording = True

    def __init__(self) -> None:
        super().__init__()
        self.attributes: dict[str, object] = {}
        self.steps: list[Attributes] = []

    def begin(
        self, name: str, attributes: Attributes | None = None, *, calls: bool = False
    ) -> Self:
        return self

    def set(self, attributes: Attributes) -> None:
        self.attributes |= attributes

    def step(self, name: str, start: float, end: float, attributes: Attributes) -> None:
        self.steps.append(attributes)


@pytest.fixture
def span() -> Iterator[NotedSpan]:
    """The one being served."""
    noted = NotedSpan()
    token = module._current.set(noted)
    yield noted
    module._current.reset(token)


def traced(*verdicts: Verdict) -> OutputStream:
    stream, _ = make_stream()
    with stream_span(stream, Speculation.AUTO):
        emit(stream, *verdicts)
    return stream


def test_tokens_of_branches_are_told_where_there_were_some(span: NotedSpan) -> None:
    traced(
        Verdict(2, (5,)),
        Verdict(3, (6, 7, 8), 2, 1, branch_verified=4, branch_accepted=1),
        Verdict(6, (9,), 1, 0, branch_verified=3),
    )
    assert [[one.get(name) for name in BRANCHES] for one in span.steps] == [
        [None, None],
        [4, 1],
        [3, 0],
    ]
    assert [span.attributes[name] for name in BRANCHES] == [7, 1]
    assert span.attributes["paceline.accepted"] == 1


def test_a_stream_without_branches_tells_nothing_of_them(span: NotedSpan) -> None:
    traced(Verdict(2, (5,)), Verdict(3, (6, 7), 2, 1))
    assert len(span.steps) == 2
    assert not {*BRANCHES} & {*span.attributes, *span.steps[0], *span.steps[1]}
