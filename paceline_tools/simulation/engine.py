"""An engine's worker in virtual time: the engine's core, and a forward pass that takes its time."""

import asyncio
import sys
from collections.abc import Callable, Hashable
from typing import Protocol

from paceline.engine.core.scheduler import Scheduler, Step
from paceline.engine.interfaces import Span, StepReport
from paceline.protocol.session import Load


class Session(Hashable, Protocol):
    """What one session wants computed. See paceline.engine.interfaces.Decoder."""

    @property
    def idle(self) -> bool:
        """Whether it waits to be told what to do next, and soon will be."""

    def plan(self) -> Span | None:
        """The span to run next; None to sit this step out."""

    def commit(self, report: StepReport) -> None:
        """The span that plan asked for was computed."""


class SimulatedEngine:
    """Steps all sessions as one batch, on the running loop's clock."""

    def __init__(self, step_seconds: Callable[[Step[Session]], float]) -> None:
        """step_seconds: of a forward pass."""
        self.scheduler: Scheduler[Session] = Scheduler(sys.maxsize)
        self._step_seconds = step_seconds
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[Session, None] = {}
        self._steps = False
        self._next: asyncio.Handle | None = None
        self.busy_seconds = 0.0

    def open(self, session: Session) -> None:
        """Step it with the others."""
        self._sessions[session] = None

    def close(self, session: Session) -> None:
        """Forget it."""
        del self._sessions[session]
        self.scheduler.gather.forget(session)

    def wake(self, session: Session) -> None:
        """`session` has asked for something: who asks in the same moment may share its step."""
        gather = self.scheduler.gather
        gather.asked(session, self._loop.time())
        if not self._steps and (self._next is None or not gather.thinking):
            if self._next is not None:
                self._next.cancel()
            self._next = self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Begin a step, unless it pays to wait for others."""
        self._next = None
        wait = self._max_wait()
        if wait > 0:
            self._next = self._loop.call_later(wait, self._look)
        else:
            self._begin()

    def _max_wait(self) -> float:
        if not self.scheduler.gather.thinking:
            return 0.0
        ready = sum(not session.idle for session in self._sessions)
        return self.scheduler.max_wait(ready, self._loop.time())

    def _begin(self) -> None:
        wanted = [(one, span) for one in self._sessions if (span := one.plan()) is not None]
        if wanted:
            step = self.scheduler.begin(wanted)
            self._steps = True
            started, seconds = self._loop.time(), self._step_seconds(step)
            self.busy_seconds += seconds
            self._loop.call_later(seconds, self._end, step, started)

    def _end(self, step: Step[Session], started: float) -> None:
        self._steps = False
        now, scheduler = self._loop.time(), self.scheduler
        measured = scheduler.end(step, started, now)
        load = Load(sessions=len(self._sessions), batched_tokens=measured.rows)
        report = StepReport(measured.seconds, load, scheduler.statistics.cost_model)
        for session, _ in step.spans:
            if session in self._sessions:
                scheduler.gather.answered(session, now)
                session.commit(report)
                if not session.idle:
                    scheduler.gather.goes_on(session)
        # What comes in the same moment is heard before the next step begins.
        self._next = self._loop.call_soon(self._look)


def rows_and_prompt_tokens(step: Step[Session]) -> tuple[int, int]:
    """Rows with logits in a step, and tokens of the prompts that it reads.

    A prompt is read as a piece without logits, so that what the engine learns of a row's cost is
    that of a token to verify or to draft.
    """
    rows = prompts = 0
    for _, span in step.spans:
        rows += span.logit_rows
        prompts += 0 if span.logit_rows else len(span.token_ids)
    return rows, prompts
