"""What the span of a session says on the target: its first steps, and sums over all."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator

from paceline.best_effort import best_effort
from paceline.protocol.verdict import Verdict
from paceline.tracing.span import FIRST_STEPS, TraceSpan, current

Observe = Callable[[Verdict], None]


@contextlib.contextmanager
def observing(observe: Observe) -> Iterator[Observe]:
    """What to tell of the session's verdicts: `observe` itself, where it is not traced."""
    span = current()
    if not span.recording:
        yield observe
        return
    traced = TracedVerdicts(span, observe)
    try:
        yield traced.observe
    finally:
        traced.end()


class TracedVerdicts:
    """The verdicts of one session that is traced."""

    def __init__(self, span: TraceSpan, observe: Observe) -> None:
        """span: of the session. observe: is told of each verdict, as if this were not here."""
        self._span = span
        self._observe = observe
        self._verdicts = 0
        self._sums: Counter[str] = Counter()
        self._seconds = {"step": 0.0, "sampling": 0.0, "waited": 0.0}

    def observe(self, verdict: Verdict) -> None:
        """A verdict is on its way."""
        self._observe(verdict)
        if self._verdicts < FIRST_STEPS:
            with best_effort("traces"):
                self._note(verdict)
        self._verdicts += 1
        sums, seconds = self._sums, self._seconds
        sums["output_tokens"] += len(verdict.token_ids)
        sums["verified"] += verdict.verified
        sums["accepted"] += verdict.accepted
        seconds["step"] += verdict.step_seconds
        seconds["sampling"] += verdict.sampling_seconds
        seconds["waited"] += verdict.waited_seconds

    def _note(self, verdict: Verdict) -> None:
        if not self._verdicts:
            self._sums["cached_tokens"] = verdict.cached_tokens
        end = time.monotonic()
        begin = end - verdict.step_seconds - verdict.sampling_seconds
        load = {"paceline.batched_tokens": verdict.load.batched_tokens}
        self._span.step("step", begin, end, load)

    def end(self) -> None:
        """The session is over."""
        with best_effort("traces"):
            self._span.set(
                {
                    "paceline.verdicts": self._verdicts,
                    **{f"paceline.{name}": count for name, count in self._sums.items()},
                    **{f"paceline.{name}_seconds": sum_ for name, sum_ in self._seconds.items()},
                }
            )
