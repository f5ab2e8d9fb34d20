"""The engine: one worker thread that owns the model and steps all sessions as one ragged batch."""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from paceline.engine.core.cost import CostFit
from paceline.engine.core.gather import DECODE_SHARE, Gather
from paceline.engine.core.prefixes import PrefixCache, as_tokens, longest
from paceline.engine.core.schedule import block_rows, schedule
from paceline.engine.interfaces import Decoder, Logits, Runner, Span, StepMeasurement, StepReport
from paceline.engine.session import EngineSession
from paceline.errors import (
    Internal,
    InvalidArgument,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.harmless import harmless
from paceline.protocol.model import KVSize
from paceline.protocol.session import Load

LONGEST_GATHER = 1.0
"""Steps for which one waits at most for those whom the last one answered."""

_log = structlog.get_logger(__name__)


class Engine:
    """Runs the sessions' decoders. All methods but the worker's own may be called on any thread."""

    def __init__(
        self,
        runner: Runner,
        *,
        max_batched_tokens: int,
        kv_pages: int,
        reserve_pages: int = 0,
        on_step: Callable[[StepMeasurement], None] | None = None,
        on_admit: Callable[[int, int], None] | None = None,
    ) -> None:
        """Own `runner`.

        max_batched_tokens: most rows in a step. kv_pages: pages of runner.page_rows tokens for all
        sessions, and for prefixes in what they leave. reserve_pages: of these, kept for
        streams that fail over. on_admit: told a session's tokens and how many were cached.
        """
        self._runner = runner
        self._max_batched_tokens = max_batched_tokens
        self.kv = KVSize(runner.page_rows, kv_pages, reserve_pages)
        self._on_step = on_step
        self._on_admit = on_admit
        self._prefixes = PrefixCache()
        self._cost = CostFit()
        self._sessions: list[EngineSession] = []
        self._pages_used = 0
        self._queued = 0
        self._last_rows = 0
        self._last_seconds = self._ended = 0.0
        self._gathering = Gather()
        self._some_go_on = False
        self._changed = threading.Condition()
        self._dirty = False
        self._stopping = self._over = False
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self.after_step: Callable[[], None] = lambda: None  # on the worker, once all are told
        self.steps = 0
        self.pace = 0.0
        """Seconds from the end of a step to the end of the next, while they follow each other."""

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def stop(self) -> None:
        """End the worker after its current step; sessions left over fail with Unavailable."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._worker.join()

    @property
    def alive(self) -> bool:
        """Whether the worker runs; once it does not, no session is opened."""
        return self._worker.is_alive() and not self._over

    @property
    def block_rows(self) -> int:
        """Most rows of a span that need logits: such a span gets its turn, whatever else waits."""
        return block_rows(self._max_batched_tokens)

    @property
    def load(self) -> Load:
        """What the engine has on its hands."""
        return Load(
            sessions=len(self._sessions),
            queued=self._queued,
            batched_tokens=self._last_rows,
            kv_pages_used=self._pages_used,
            kv_pages_total=self.kv.pages,
        )

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
    ) -> EngineSession:
        """Admit a session that begins with `tokens` and will have at most `max_length`.

        Its pages are promised here, so that no stream runs out of KV half way. One that
        resumes may use the reserve. Raises ResourceExhausted when there is no room now,
        InvalidArgument when there never is, Unavailable when the worker has ended.
        salt: whom it shares prefixes with; None: nobody. priority: higher goes first.
        has_room: asked on the worker; when it holds again the session must be woken.
        """
        self._check_size(max_length, resumes=resumes)
        pages = self.kv.pages_of(max_length)
        with self._changed:
            if self._over or self._stopping:
                raise Unavailable("the engine has stopped")
            free = self.kv.pages_for(resumes=resumes) - self._pages_used
            if pages > free:
                raise ResourceExhausted(f"KV is full: {pages} pages needed, {max(free, 0)} free")
            cache = self._runner.new_cache(max_length)
            session = EngineSession(
                decoder,
                cache,
                pages,
                as_tokens(tokens),
                None if salt is None else f"{cache.reach} {salt}",
                priority,
                has_room,
            )
            self._pages_used += pages
            self._sessions.append(session)
        self.wake(session)
        return session

    def _check_size(self, max_length: int, *, resumes: bool) -> None:
        most = self.kv.most(resumes=resumes)
        if max_length > most:
            limit = f"at most {most}, what KV here has for one stream"
            raise InvalidArgument.of("tokens of prompt and max_tokens together", max_length, limit)

    def close(self, session: EngineSession) -> None:
        """Free `session` before the next step. Closing twice does nothing."""
        session.closed = True
        self.wake(session)

    def wake(self, session: EngineSession) -> None:
        """Have the worker ask the decoders again: that of `session` has news."""
        with self._changed:
            self._gathering.asked(session, time.perf_counter())
            self._dirty = True
            self._changed.notify()

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                while self._step():
                    pass
        except BaseException:
            _log.critical("the engine died", exc_info=True)
        finally:
            self._end()

    def _end(self) -> None:
        """Whoever is left goes elsewhere, at once; nobody comes any more."""
        with self._changed:
            self._over = True
        for session in self._sessions:
            self._fail(session, Unavailable("the engine has stopped"))
        self._told()

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._dirty or self._stopping)
            self._dirty = False
            return not self._stopping

    def _step(self) -> bool:
        """Make one step; False when nobody wants one."""
        self._gather()
        self._free_closed()
        self._admit_new()  # behind the wait, in which some may have opened
        wanted = self._wanted()
        step = schedule(wanted, self._max_batched_tokens)
        self._queued = len(wanted) - len(step)
        if not step or self._stopping:
            self._told()  # some may have been told while they planned
            return False
        started = time.perf_counter()
        try:
            logits = self._runner.forward([(session.cache, span) for session, span in step])
            results = list(zip(step, logits, strict=True))
        except Exception:
            _log.exception("forward pass failed", sessions=len(step))
            self._check_runner()
            for session, _ in step:
                self._fail(session, Internal("the forward pass failed"))
            self._told()
            return True
        report = self._report(step, started, time.perf_counter())
        whole = {id(session): span for session, span in wanted}
        self._some_go_on = False
        for (session, span), rows in results:
            if span is whole[id(session)]:
                self._commit(session, span, rows, report)
            else:
                self._some_go_on = True
        self._told()
        self._record(step)  # nobody waits for a metric
        # Who was served goes behind those who were not.
        served = {id(session) for session, _ in step}
        with self._changed:
            self._sessions.sort(key=lambda session: id(session) in served)
        return True

    def _check_runner(self) -> None:
        """Raise when a step of one token fails as well: then no session is to blame, nor served."""
        self._runner.forward([(self._runner.new_cache(), Span(0, (0,), 1))])

    def _told(self) -> None:
        with harmless("after_step"):
            self.after_step()

    def _record(self, step: Sequence[tuple[EngineSession, Span]]) -> None:
        if self._on_step is not None:
            with harmless("on_step"):
                self._on_step(StepMeasurement(self._last_rows, len(step), self._last_seconds))

    def _gather(self) -> None:
        """Wait for those who just got an answer, as long as that pays, so that they share the step.

        Without it the first to ask again would have a step alone, and the others the next one.
        """
        with self._changed:
            while not self._stopping and (left := self._max_wait()) > 0:
                self._changed.wait_for(self._need_not_wait, left)
            self._dirty = False

    def _need_not_wait(self) -> bool:
        return self._stopping or not self._gathering.thinking

    def _max_wait(self) -> float:
        """Seconds to wait for one more; few where some go on without having to ask."""
        if not self._gathering.thinking:
            return 0.0
        now = time.perf_counter()
        longest = self._last_seconds * (DECODE_SHARE if self._some_go_on else LONGEST_GATHER)
        ready = sum(not (one.closed or self._is_idle(one)) for one in self._sessions)
        wait = self._gathering.max_wait(ready, self._last_seconds, now) if ready else 0.0
        return min(self._ended + longest - now, wait)

    def _wanted(self) -> list[tuple[EngineSession, Span]]:
        """What sessions want computed, in the order of their precedence."""
        able = (session for session in self._sessions if session.admitted and session.has_room())
        ranked = sorted(able, key=lambda session: -session.priority)
        return [(session, span) for session in ranked if (span := self._plan(session))]

    def _plan(self, session: EngineSession) -> Span | None:
        try:
            span = session.decoder.plan(session.cache.length)
            if span is not None:
                session.cache.truncate(span.position)
        except Exception:
            _log.exception("a decoder failed to plan")
            self._fail(session, Internal("planning the step failed"))
            return None
        if (
            span is not None and span.logit_rows > self._max_batched_tokens
        ):  # it would wait for ever
            wants = f"a step wants logits of {span.logit_rows} rows"
            self._fail(session, Internal(f"{wants}; the limit is {self._max_batched_tokens}"))
            return None
        return span

    def _is_idle(self, session: EngineSession) -> bool:
        try:
            return session.decoder.idle
        except Exception:
            _log.exception("a decoder failed to say whether it is idle")
            self._fail(session, Internal("planning the step failed"))
            return True

    def _commit(self, session: EngineSession, span: Span, rows: Logits, report: StepReport) -> None:
        with self._changed:  # before it is told, as it may ask at once
            self._gathering.answered(session, time.perf_counter())
        try:
            session.decoder.commit(span, rows, report)
        except PacelineError as error:
            self._fail(session, error)
        except Exception:
            _log.exception("a decoder failed to commit")
            self._fail(session, Internal("taking the step's result failed"))
        if not self._is_idle(session):
            with self._changed:
                self._some_go_on |= self._gathering.goes_on(session)

    def _fail(self, session: EngineSession, error: PacelineError) -> None:
        session.closed = True
        with harmless("telling a session that it failed"):
            session.decoder.fail(error)

    def _report(
        self, step: list[tuple[EngineSession, Span]], started: float, ended: float
    ) -> StepReport:
        seconds = self._last_seconds = ended - started
        idle = started - self._ended
        self.pace = seconds + min(idle, seconds)
        self._ended = ended
        rows = sum(len(span.token_ids) for _, span in step)
        if all(span.logit_rows for _, span in step):
            self._cost.observe(rows, seconds)
        self.steps += 1
        self._last_rows = rows
        cost = self._cost.model
        return StepReport(seconds, self.load, cost, lambda: time.perf_counter() - ended)

    def _free_closed(self) -> None:
        with self._changed:
            closed = [session for session in self._sessions if session.closed]
            self._pages_used -= sum(session.pages for session in closed)
            self._sessions = [session for session in self._sessions if not session.closed]
            for session in closed:
                self._gathering.forget(session)
        for session in closed:
            if (prefix := session.prefix(self.kv)) is not None:
                self._prefixes.add(prefix)
        self._prefixes.evict(self.kv.pages - self._pages_used)

    def _admit_new(self) -> None:
        """Give new sessions the KV of what began alike, whether that has ended or still runs."""
        for session in self._sessions:
            if not session.admitted:
                session.admitted = True
                with harmless("sharing a prefix"):
                    self._share(session)
                if self._on_admit is not None:
                    with harmless("on_admit"):
                        self._on_admit(session.tokens.size, session.cache.length)

    def _share(self, session: EngineSession) -> None:
        if session.salt is None:
            return
        found = self._prefixes.longest(session.salt, session.tokens)
        running = (other.prefix(self.kv) for other in self._sessions)
        alike = [prefix for prefix in running if prefix and prefix.salt == session.salt]
        live = longest(alike, session.tokens)
        if live is not None and (found is None or live[1] > found[1]):
            found = live[0].cache, live[1]
        if found is not None:
            cache, length = found
            session.cache = cache.copy(length)
