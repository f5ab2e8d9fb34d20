"""A session in the engine. A decoder that raises ends its own session and no other."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from paceline.best_effort import best_effort
from paceline.engine.core.prefixes import MIN_TOKENS, Prefix, TokenArray, as_array
from paceline.engine.core.waiting import Claim
from paceline.engine.interfaces import (
    BranchingCache,
    Decoder,
    KVCache,
    Rows,
    Span,
    StepReport,
)
from paceline.errors import Internal, PacelineError
from paceline.protocol.model import KVSize

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class EngineSession:
    """One session in the engine: its decoder, its cache, and its claim to pages of KV.

    tokens: those it opened with, or had when it was preempted. salt: only sessions with an equal
    one share prefixes; None: it shares none. has_room: whether its results can be taken; while it
    is false the decoder is not asked. admitted: its cache was begun. preempted: it was, once.
    waited_seconds: for KV, since its last answer.
    """

    decoder: Decoder
    cache: KVCache
    claim: Claim
    tokens: TokenArray
    salt: str | None
    has_room: Callable[[], bool]
    admitted: bool = False
    closed: bool = False
    preempted: bool = False
    waited_seconds: float = 0.0

    @property
    def waiting(self) -> bool:
        """Whether it waits for KV."""
        return not (self.claim.pages or self.closed)

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV it has."""
        return self.cache.length

    @property
    def idle(self) -> bool:
        """Whether it waits for a request that is about to come."""
        try:
            return self.decoder.idle
        except Exception:
            _log.exception("a decoder failed to say whether it is idle")
            self.fail(Internal("planning the step failed"))
            return True

    def plan(self, max_rows: int) -> Span | None:
        """What it wants computed; it fails where that has more rows with logits than max_rows."""
        try:
            span = self.decoder.plan(self.cache.length)
            if span is not None:
                self.cache.truncate(span.position)
        except PacelineError as error:
            self.fail(error)
            return None
        except Exception:
            _log.exception("a decoder failed to plan")
            self.fail(Internal("planning the step failed"))
            return None
        if span is not None and span.wanted_rows > max_rows:  # no step would ever hold it
            wants = f"a step wants logits of {span.wanted_rows} rows"
            self.fail(Internal(f"{wants}; the limit is {max_rows}"))
            return None
        return span

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Hand the decoder what the rows of the span that it wanted gave."""
        if self.waited_seconds:
            report = dataclasses.replace(report, waited_seconds=self.waited_seconds)
            self.waited_seconds = 0.0
        if span.branches and isinstance(self.cache, BranchingCache):
            report = dataclasses.replace(report, take_branch=self.cache.take_branch)
        try:
            self.decoder.commit(span, rows, report)
        except PacelineError as error:
            self.fail(error)
        except Exception:
            _log.exception("a decoder failed to commit")
            self.fail(Internal("taking the step's result failed"))
        if span.branches:
            self.cache.truncate(self.cache.length)  # holds what the step made of no branch any more

    def fail(self, error: PacelineError) -> None:
        """Close it, and tell its decoder why."""
        self.closed = True
        with best_effort("telling a session that it failed"):
            self.decoder.fail(error)

    def preempt(self, empty: KVCache) -> None:
        """Drop its KV; the decoder, of which nothing else is dropped, will want all of it again."""
        if self.salt is not None:
            with best_effort("noting a preempted session's tokens"):
                known = as_array(self.decoder.kept(self.cache.length))
                self.tokens = max(self.tokens, known, key=len)
        self.cache, self.admitted, self.preempted = empty, False, True

    def prefix(self, kv: KVSize) -> Prefix | None:
        """What others may share of it."""
        if self.salt is None or self.cache.length < MIN_TOKENS:
            return None
        with best_effort("keeping a prefix"):
            kept = as_array(self.decoder.kept(self.cache.length))
            return Prefix(self.salt, kept, self.cache, kv.pages_of(self.cache.length))
        return None
