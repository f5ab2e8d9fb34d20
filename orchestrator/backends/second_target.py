"""A session opened on another target while the first is silent: the first to answer wins."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import structlog

from orchestrator.backends.replica import Replica
from orchestrator.backends.session_calls import TargetCall
from paceline.errors import PacelineError
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TimedVerdict, Verify

_log = structlog.get_logger(__name__)


@dataclass
class BegunTarget:
    """A session whose first verdict is here: a Target of the round, for which it was asked.

    ends: closes the session.
    """

    replica: Replica
    call: TargetCall
    first: TimedVerdict
    later: AsyncIterator[TimedVerdict]
    ends: contextlib.AsyncExitStack
    asked: bool = False

    async def ask(self, verify: Verify) -> None:
        """Ask for verdicts; the one for which a round begins by asking is here."""
        if self.asked:
            await self.call.ask(verify)
        self.asked = True

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        """As TargetCall.verdicts."""
        yield self.first
        async for timed in self.later:
            yield timed


class SecondTarget:
    """Looks for another target once the one that has the stream is in doubt."""

    def __init__(
        self,
        pick: Callable[[Replica], Replica],
        call: Callable[[Replica], TargetCall],
        opening: Callable[[], Opening],
    ) -> None:
        """pick: another server than one. call: begins a call to it. opening: what to open."""
        self._pick = pick
        self._call = call
        self._opening = opening
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._begun: BegunTarget | None = None

    def watch(self, call: TargetCall, replica: Replica) -> None:
        """Have the stream opened elsewhere while answers of this session are late."""
        call.silence.on_late = lambda: self._begin(call, replica)
        call.silence.on_answer = self.drop

    @property
    def is_there(self) -> bool:
        """Whether another target has answered."""
        return self._begun is not None

    def take(self, position: int) -> BegunTarget | None:
        """The session that has answered for this position, if one has; the caller ends it."""
        begun, self._begun = self._begun, None
        if begun is not None and begun.first.verdict.position != position:
            self._close(begun)
            return None
        return begun

    def drop(self) -> None:
        """The first target has answered, or the stream ends: no other is needed."""
        if self._task is not None:
            self._task.cancel()
        begun, self._begun = self._begun, None
        if begun is not None:
            self._close(begun)

    def _close(self, begun: BegunTarget) -> None:
        closing = asyncio.create_task(begun.ends.aclose())  # which no later drop cancels
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _begin(self, call: TargetCall, silent: Replica) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._open(call, silent))

    async def _open(self, call: TargetCall, silent: Replica) -> None:
        try:
            self._begun = await self._answer(self._pick(silent))
        except PacelineError as error:  # it is tried again while the first one is silent
            _log.debug("no second target", silent=silent.address, reason=str(error))
        else:
            _log.info("second target answers", silent=silent.address)
            call.silence.give_up()

    async def _answer(self, replica: Replica) -> BegunTarget:
        """Open the stream there, and wait for its first verdict."""
        async with contextlib.AsyncExitStack() as stack:
            call = await stack.enter_async_context(self._call(replica))
            await call.open(self._opening())
            await call.ask(Verify())
            verdicts = call.verdicts()
            first = await anext(verdicts)
            return BegunTarget(replica, call, first, verdicts, stack.pop_all())
