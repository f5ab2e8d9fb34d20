"""The seams of the engine. What stands behind each of them can be replaced.

Runner, KVCache, Span: a device computes spans of tokens, each on its session's KV cache.
Decoder, StepReport: a session says which span it wants computed next, and takes the logits.
Engine, OpenSession, StartedEngine: what draft and target servers work on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.errors import PacelineError
from paceline.protocol.model import KVSize, ModelInfo, TokenizerFiles
from paceline.protocol.session import CostModel, Load

PAGE_TOKENS = 512
"""Tokens in a page of KV, the unit in which KV is promised."""
Logits = NDArray[np.floating]
"""Raw logits, [rows, vocabulary], float32 or, for a float64 model, float64."""
Rows = Logits | Sequence[Pick]
"""What a span's last rows gave: logits, or what was picked from them on the model's device."""


@dataclass(frozen=True, slots=True)
class SpanBranch:
    """Tokens that may stand in a session instead of a span's, from one of these on.

    position: of the first, which is that of one of the span's tokens whose logits are wanted.
    Logits are wanted of all.
    """

    position: int
    token_ids: tuple[int, ...]

    @property
    def end(self) -> int:
        """The position behind the last."""
        return self.position + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of one session to run in one step.

    position: of the first of token_ids; the cache drops what it has from there on.
    logit_rows: of how many last tokens logits are wanted; 0 for a piece of a prompt. picks: says
    what to pick from the rows that are wanted, where a device can; asked on the worker while it
    computes. branches: computed in the same step, only where the cache is a BranchingCache.
    """

    position: int
    token_ids: tuple[int, ...]
    logit_rows: int
    picks: Callable[[], PickRequest] | None = field(default=None, compare=False)
    branches: tuple[SpanBranch, ...] = ()

    def head(self, rows: int) -> "Span":
        """The first `rows` tokens, fewer than all, as a piece that needs no logits."""
        return Span(self.position, self.token_ids[:rows], 0)

    @property
    def rows(self) -> int:
        """All that are computed, those of branches included."""
        return len(self.token_ids) + self._branch_rows

    @property
    def wanted_rows(self) -> int:
        """Rows whose logits are wanted: the last ones, then each branch's."""
        return self.logit_rows + self._branch_rows

    @property
    def end(self) -> int:
        """The position behind the last token, also of branches."""
        own = self.position + len(self.token_ids)
        return max((own, *(branch.end for branch in self.branches)))

    @property
    def _branch_rows(self) -> int:
        if not self.branches:  # nearly always, and asked for several times a step
            return 0
        return sum(len(branch.token_ids) for branch in self.branches)


class KVCache(Protocol):
    """Keys and values of one session: contiguous, grown as needed, cut by truncate."""

    @property
    def length(self) -> int:
        """Tokens it has."""

    @property
    def rope_length(self) -> int:
        """The length that RoPE is scaled for, else 0; only with equal ones can KV be shared."""

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens, at most what it has. This is all of rollback."""

    def copy(self, length: int) -> Self:
        """A cache of its own with the first `length` tokens, at most what this one has."""


@runtime_checkable
class BranchingCache(KVCache, Protocol):
    """A cache of a runner that computes a span's branches."""

    def take_branch(self, index: int) -> None:
        """Have this branch of the last span instead of that one's own tokens from there on.

        At most once, and only before it is truncated, which drops all branches.
        """


class Runner(Protocol):
    """The forward pass. Not thread-safe: one worker thread owns it."""

    @property
    def page_tokens(self) -> int:
        """Tokens in a page of KV: caches grow by whole pages."""

    def new_cache(self, max_length: int = 0) -> KVCache:
        """An empty cache of a session with at most so many tokens."""

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """Append each span to its cache, which is truncated to span.position before.

        Returns per span the logits of its last logit_rows rows, and behind them of all rows of each
        branch in turn, [wanted_rows, vocabulary]. The cache has the span's own tokens then.
        Batch-invariant: a row's bits depend neither on the other spans, nor on how the tokens
        before it were cut into spans. tests/unit/engine/test_runner_conformance.py checks this.
        """


@runtime_checkable
class PickingRunner(Runner, Protocol):
    """A runner that picks tokens where the logits are, so that these need not leave the device."""

    def forward_and_pick(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Rows]:
        """As forward; of a span that says what to pick, the picks instead of its logits."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a decoder is told of the step that computed its span. seconds: of the forward pass.

    since_forward: returns the seconds since that ended. waited_seconds: for which the session has
    waited for KV since its last answer. take_branch: of the session's cache, see BranchingCache.
    """

    seconds: float
    load: Load
    cost_model: CostModel | None
    since_forward: Callable[[], float] = lambda: 0.0
    waited_seconds: float = 0.0
    take_branch: Callable[[int], None] = lambda _: None


class Decoder(Protocol):
    """What one session wants computed; called on the engine's worker thread only."""

    @property
    def idle(self) -> bool:
        """Whether it waits for a request that is about to come."""

    def plan(self, cached: int) -> Span | None:
        """The span to run next, given that `cached` tokens are in KV; None to sit this step out.

        The engine may run the head of a long span first and ask again. It may have dropped KV
        where that is short: `cached` is then 0, or what others have of the same tokens.
        """

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Take what the rows of the span that plan asked for gave.

        Picks only where the span said what to pick.
        """

    def kept(self, cached: int) -> Sequence[int]:
        """The leading tokens whose KV is right, when `cached` tokens are in KV."""

    def fail(self, error: PacelineError) -> None:
        """The engine has ended this session, because of `error`."""


class OpenSession(Protocol):
    """What Engine.open returns, for those who opened it; an engine has more of it."""

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV it has."""

    @property
    def waiting(self) -> bool:
        """Whether it waits for KV."""


class Engine(Protocol):
    """What draft and target servers work on; all methods may be called on any thread.

    paceline.engine.worker has Paceline's own. after_step: called on the engine's thread once all
    sessions of a step are told, and once sessions are told that they failed. close and wake take
    what open returned, of the engine's own type.
    """

    after_step: Callable[[], None]

    def open(
        self,
        decoder: Decoder,
        tokens: Sequence[int],
        max_length: int,
        *,
        resumes: bool = False,
        salt: str | None = "",
        priority: int = 0,
        has_room: Callable[[], bool] = lambda: True,
        waits: bool = True,
        spare: bool = False,
    ) -> OpenSession:
        """Admit a session that begins with `tokens` and will have at most `max_length`.

        Where KV is full it waits for some, in an engine in which sessions wait; there it may also
        lose its KV half way, and computes it again when there is room. Elsewhere it fails then
        with ResourceExhausted. resumes: it comes
        from a lost server, and may use the reserve. salt: only sessions with an equal one share
        prefixes; None: it shares none. priority: higher goes first. has_room: whether its results
        can be taken; while it is false the decoder is not asked, and the caller wakes the session
        once it is true. waits: False to be refused rather than to wait. spare: its caller goes on
        without it, so it does not wait either, goes behind all others, and fails with
        ResourceExhausted where one that opens or grows needs its KV. Raises
        ResourceExhausted when there is no room now and it may not wait, InvalidArgument when there
        never is, Unavailable when the engine has stopped.
        """

    def close(self, session: Any) -> None:
        """Free `session` before the next step. Closing twice does nothing."""

    def wake(self, session: Any) -> None:
        """Ask the session's decoder again: what it wants has changed."""

    def stop(self) -> None:
        """End after the current step; sessions left over fail with Unavailable."""

    @property
    def alive(self) -> bool:
        """Whether it takes sessions and makes steps."""

    @property
    def kv(self) -> KVSize:
        """The KV there is for sessions."""

    @property
    def load(self) -> Load:
        """Its sessions, the last step and the KV in use."""

    @property
    def max_block_tokens(self) -> int:
        """Most tokens of a span that need logits: such a span gets its turn, whatever waits."""

    @property
    def steps(self) -> int:
        """Steps so far. While the number grows, the engine makes progress."""

    @property
    def pace(self) -> float:
        """Seconds from the end of a step to the end of the next, while they follow each other."""


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """A running engine and its model: what a server is made of.

    tokenizer: None where the model has none. threads: of the forward pass; 0 where there is none.
    computes_in: dtype, weights and device, by these names; empty where nothing is computed.
    """

    engine: Engine
    model: ModelInfo
    tokenizer: TokenizerFiles | None
    threads: int = 0
    computes_in: Mapping[str, str] = field(default_factory=dict)
