"""A caller that gives no deadline gets that of the settings."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from orchestrator.serving.event_buffer import EventBuffer
from orchestrator.serving.generation import Serving
from orchestrator.serving.service import GenerationService
from orchestrator.settings import OrchestratorSettings
from paceline.protocol.generation import GenerateRequest
from paceline.rpc.codec.generation import request_to_proto
from paceline.rpc.deadline import MARGIN_SECONDS


class Noting(Serving):
    """Notes how many seconds a call has."""

    seconds = 0.0

    def check_door(self, streams: int, seconds: float) -> None:
        pass

    async def generate(
        self,
        request: GenerateRequest,
        *,
        seconds: float,
        request_id: str = "",
        event_buffer: EventBuffer | None = None,
        signs: bool = False,
    ) -> Any:
        self.seconds = seconds
        return
        yield


class Caller:
    """A context whose caller has given so many seconds."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 7.0), (1e15, 7.0), (3.0, 3.0 - MARGIN_SECONDS)]
)
async def test_the_deadline_of_a_call(given: float | None, expected: float) -> None:
    nobody = cast("Any", None)
    settings = OrchestratorSettings(default_deadline_seconds=7.0)
    serving = Noting(settings, nobody, nobody)
    request = request_to_proto(GenerateRequest("a"))
    answers = GenerationService(serving).Generate(request, cast("Any", Caller(given)))
    assert [one async for one in cast("AsyncIterator[Any]", answers)] == []
    assert serving.seconds == expected
