"""What the span of a session says on the draft: its first proposals, and sums over all."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from paceline.best_effort import best_effort
from paceline.protocol.proposal import Proposal
from paceline.tracing.span import FIRST_STEPS, TraceSpan, current

Observe = Callable[[tuple[Proposal, ...]], None]
Post = Callable[[Any, Any], tuple[float, ...]]


@contextlib.contextmanager
def observing(observe: Observe, post: Post) -> Iterator[tuple[Observe, Post]]:
    """The functions themselves, where the session is not traced; else such as note what they do.

    observe: is told of proposals. post: hands the drafter an advance.
    """
    span = current()
    if not span.recording:
        yield observe, post
        return
    traced = TracedProposals(span)

    def noted_observe(proposals: tuple[Proposal, ...]) -> None:
        observe(proposals)
        traced.proposed(proposals)

    def noted_post(drafter: Any, request: Any) -> tuple[float, ...]:
        traced.advanced()
        return post(drafter, request)

    try:
        yield noted_observe, noted_post
    finally:
        traced.end()


class TracedProposals:
    """What is proposed in one session that is traced.

    A span of drafting lasts from an advance to what was sent last before the next one.
    """

    def __init__(self, span: TraceSpan) -> None:
        """Begin with it. span: of the session."""
        self._span = span
        self._began = self._sent = time.monotonic()
        self._spans = self._tokens = self._tokens_before = self._messages = self._advances = 0

    def advanced(self) -> None:
        """An advance came: what follows is drafted since then."""
        self._advances += 1
        if self._spans < FIRST_STEPS:
            with best_effort("traces"):
                self._note()

    def proposed(self, proposals: Iterable[Proposal]) -> None:
        """A message of proposals goes out."""
        self._tokens += sum(len(one.token_ids) for one in proposals)
        self._messages += 1
        if self._spans < FIRST_STEPS:
            self._sent = time.monotonic()

    def _note(self) -> None:
        """The span of what was drafted since the last advance."""
        tokens = self._tokens - self._tokens_before
        if tokens:
            self._span.step("draft", self._began, self._sent, {"paceline.draft_tokens": tokens})
            self._spans += 1
        self._began, self._tokens_before = time.monotonic(), self._tokens

    def end(self) -> None:
        """The session is over."""
        with best_effort("traces"):
            if self._spans < FIRST_STEPS:
                self._note()
            self._span.set(
                {
                    "paceline.advances": self._advances,
                    "paceline.proposal_messages": self._messages,
                    "paceline.drafted": self._tokens,
                }
            )
