"""A step as the workers are told of it. It crosses to their processes, so it is plain values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paceline.engine.sampling.requests import PickRequest

Picks = Callable[[], PickRequest]
"""As Span.picks."""


@dataclass(frozen=True, slots=True)
class Extension:
    """Tokens that a request's path has from a position on, whatever the workers believe."""

    name: str
    position: int
    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class Said:
    """What to pick, said before the step: where the workers are processes of their own."""

    request: PickRequest

    def __call__(self) -> PickRequest:
        """It."""
        return self.request


@dataclass(frozen=True, slots=True)
class WantedRows:
    """A request's last rows, with what to pick from them; picks None: their logits are wanted."""

    name: str
    rows: int
    picks: Picks | None


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """One forward pass.

    output: vLLM's own SchedulerOutput. extensions: of requests that the workers know. wanted: of
    each request, in our order.
    """

    output: Any
    extensions: list[Extension]
    wanted: list[WantedRows]
