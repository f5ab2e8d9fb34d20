"""A step as the workers are told of it. It crosses to their processes, so it is plain values."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Extension:
    """Tokens that a request's path has from a position on, whatever the workers believe."""

    name: str
    position: int
    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """One forward pass.

    output: vLLM's own SchedulerOutput. extensions: of requests that the workers know. wanted: of
    each request, in our order, how many last rows of logits.
    """

    output: Any
    extensions: list[Extension]
    wanted: list[tuple[str, int]]
