"""The engine without its thread: when a step begins, which spans share it, what it took. Pure.

Whoever runs it, the worker's thread or a simulation, brings the clock (any one, in seconds), the
sessions (any hashable keys) and the forward pass:

    scheduler = Scheduler(max_batched_tokens)
    scheduler.gather.asked(key, now)  # a session asks for something; at any time, in a step as well
    while (wait := scheduler.max_wait(ready, now)) > 0:  # ready: sessions that want something
        ...  # so many seconds, or until one more asks
    step = scheduler.begin(wanted)  # [(key, span)]: who goes first comes first
    ...  # compute step.spans, from `started` to `ended`
    measured = scheduler.end(step, started, ended)
    for key, span in step.spans:
        if key not in step.pieces:
            scheduler.gather.answered(key, now)  # it gets its result, and is expected to ask again
            scheduler.gather.goes_on(key)  # only where it wants more without asking for it
    scheduler.gather.forget(key)  # a session is closed

What is reported of a step is `measured`, and `scheduler.statistics`: the cost model and the pace.
Pages of KV, and the order in which sessions take turns, are paceline.engine.core.admission's.
`tests/unit/engine/core/test_scheduler.py` is such an engine, on a virtual clock.
"""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from paceline.engine.core.batching import fill_batch
from paceline.engine.core.step_start import DECODE_SHARE, LONGEST_GATHER, StepStart
from paceline.engine.core.step_statistics import StepMeasurement, StepStatistics
from paceline.engine.interfaces import Span

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Step(Generic[Key]):
    """The spans that share a step. pieces: sessions whose span is but a piece of what they want."""

    spans: Sequence[tuple[Key, Span]]
    pieces: Collection[Key]


class Scheduler(Generic[Key]):
    """Decides about steps of at most max_batched_tokens rows."""

    def __init__(self, max_batched_tokens: int) -> None:
        """Begin before the first step."""
        self.max_batched_tokens = max_batched_tokens
        self.gather = StepStart()
        self.statistics = StepStatistics()
        self.queued = 0
        """Sessions that wanted a step, and that the last one had no room for."""

    def max_wait(self, ready: int, now: float) -> float:
        """Seconds to wait for one more to ask; 0 or less: begin. ready: who wants something.

        At most a step since the last one ended, and little where some go on without asking.
        """
        last = self.statistics
        longest = last.seconds * (DECODE_SHARE if self.gather.some_go_on else LONGEST_GATHER)
        wait = self.gather.max_wait(ready, last.seconds, now) if ready else 0.0
        return min(last.ended + longest - now, wait)

    def begin(self, wanted: Sequence[tuple[Key, Span]]) -> Step[Key]:
        """The spans that share the next step, of all that are wanted, by precedence."""
        spans = fill_batch(wanted, self.max_batched_tokens)
        self.queued = len(wanted) - len(spans)
        whole = dict(wanted)
        return Step(spans, {key for key, span in spans if span is not whole[key]})

    def end(self, step: Step[Key], started: float, ended: float) -> StepMeasurement:
        """The forward pass has ended: measure it, before anybody is told its result."""
        self.gather.some_go_on = bool(step.pieces)
        return self.statistics.observe([span for _, span in step.spans], started, ended)
