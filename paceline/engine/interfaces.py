"""What the engine's parts hand each other: spans, who wants them and who computes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from paceline.errors import PacelineError
from paceline.protocol.session import CostModel, Load

PAGE_TOKENS = 512
"""Tokens in a page of KV: what sessions are counted in."""
Logits = NDArray[np.floating]
"""Raw logits, [rows, vocabulary], float32 or, for a float64 model, float64."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of one session to run in one step.

    position: of the first of token_ids; what the KV cache has from there on is dropped.
    logit_rows: how many of the last rows need logits; 0 for a piece of a prompt.
    """

    position: int
    token_ids: tuple[int, ...]
    logit_rows: int

    def head(self, rows: int) -> "Span":
        """The first `rows` tokens, fewer than all, as a piece that needs no logits."""
        return Span(self.position, self.token_ids[:rows], 0)


class KVCache(Protocol):
    """Keys and values of one session: contiguous, grown as needed, cut by truncate."""

    @property
    def length(self) -> int:
        """Tokens it has."""

    @property
    def reach(self) -> int:
        """The length that its positions are scaled by; only with equal ones are rows alike."""

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens, at most what it has: the whole of rollback."""

    def copy(self, length: int) -> Self:
        """A cache of its own with the first `length` tokens, at most what this one has."""


class Runner(Protocol):
    """The forward pass. Not thread-safe: one worker thread owns it."""

    @property
    def page_rows(self) -> int:
        """Tokens in a page of KV: caches grow by whole pages."""

    def new_cache(self, max_length: int = 0) -> KVCache:
        """An empty cache of a session with at most so many tokens."""

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """Append each span to its cache, which is truncated to span.position before.

        Returns per span the logits of its last logit_rows rows, [logit_rows, vocabulary].
        A row's bits do not depend on the other spans, nor on how its tokens were cut into spans.
        """


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a decoder is told of the step that computed its span. seconds: of the forward pass.

    since_forward: seconds since that ended, at the time it is called.
    """

    seconds: float
    load: Load
    cost_model: CostModel | None
    since_forward: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True)
class StepMeasurement:
    """A step that was made, for metrics. seconds: of the forward pass."""

    rows: int
    sessions: int
    seconds: float


class Decoder(Protocol):
    """What one session wants computed; called on the engine's worker thread only."""

    @property
    def idle(self) -> bool:
        """Whether it waits to be told what to do next, and soon will be."""

    def plan(self, cached: int) -> Span | None:
        """The span to run next, given that `cached` tokens are in KV; None to sit this step out.

        The engine may run the head of a long span first and ask again.
        """

    def commit(self, span: Span, logits: Logits, report: StepReport) -> None:
        """Take the logits of the span that plan asked for."""

    def kept(self, cached: int) -> Sequence[int]:
        """The leading tokens whose rows are right, when `cached` tokens are in KV."""

    def fail(self, error: PacelineError) -> None:
        """The engine cannot go on with this session."""
