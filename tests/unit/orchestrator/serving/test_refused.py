"""A request that the door refuses is not read."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from orchestrator.gateway.service import VllmEngine
from orchestrator.serving.generation import Serving
from orchestrator.serving.service import GenerationService
from orchestrator.settings import OrchestratorSettings
from paceline.errors import ResourceExhausted

NOBODY = cast("Any", None)


class Full(Serving):
    """Has no room, whoever comes."""

    def check_door(self, streams: int, seconds: float) -> None:
        raise ResourceExhausted(f"full, {streams} more", 1.0)


class Unread:
    """A request of which only the number of outputs may be looked at."""

    n = 3

    @property
    def sampling_params(self) -> "Unread":
        return self


class Caller:
    """A context whose caller has given no deadline."""

    def time_remaining(self) -> None:
        return None


@pytest.mark.parametrize("front", [GenerationService, VllmEngine])
async def test_it_is_refused_before_it_is_read(front: Any) -> None:
    serving = Full(OrchestratorSettings(), NOBODY, NOBODY)
    rest = () if front is GenerationService else (NOBODY, NOBODY)
    request, caller = cast("Any", Unread()), cast("Any", Caller())
    answers: AsyncIterator[Any] = front(serving, *rest).Generate(request, caller)
    with pytest.raises(ResourceExhausted, match="full, 3 more"):
        await anext(answers)
