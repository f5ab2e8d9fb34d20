"""The engine: one worker thread that owns the model and steps all sessions as one ragged batch.

What it decides is in paceline.engine.core, which knows no thread and no clock; here are the
thread, its lock and the calls to runner, decoders and watchers.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import CollectorRegistry

from paceline.best_effort import best_effort
from paceline.engine.core.admission import Admission
from paceline.engine.core.batching import max_block_tokens
from paceline.engine.core.prefixes import PrefixCache, as_array
from paceline.engine.core.scheduler import Scheduler, Step
from paceline.engine.core.waiting import Claim, WaitingLimits
from paceline.engine.interfaces import Decoder, PickingRunner, Rows, Runner, Span, StepReport
from paceline.engine.metrics import EngineMetrics, EngineWatcher
from paceline.engine.session import EngineSession
from paceline.engine.settings import EngineSettings
from paceline.errors import Internal, ResourceExhausted, Unavailable
from paceline.protocol.model import KVSize
from paceline.protocol.session import Load

_log = structlog.get_logger(__name__)


class EngineWorker:
    """The Engine of paceline.engine.interfaces: its public methods may be called on any thread."""

    def __init__(
        self,
        runner: Runner,
        *,
        max_batched_tokens: int,
        kv_pages: int,
        reserve_pages: int = 0,
        waiting: WaitingLimits | None = None,
        preempts: bool = True,
        watcher: EngineWatcher | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Own `runner`.

        max_batched_tokens: most rows in a step. kv_pages: for all sessions, and for prefixes in
        what they leave; of runner.page_tokens each. reserve_pages: of these, kept for streams
        that fail over. waiting: how many sessions may wait for KV, and how long; None: whoever has
        no room is refused, or dropped. preempts: False where a row's bits depend on how its tokens
        were computed: a session that may wait then is promised all its KV at once. at_end: on the
        worker, once it needs the runner no more.
        """
        self._runner, self._at_end = runner, at_end
        self._run = runner.forward_and_pick if isinstance(runner, PickingRunner) else runner.forward
        self._watcher = watcher or EngineWatcher()
        kv = KVSize(runner.page_tokens, kv_pages, reserve_pages)
        grows = preempts or waiting is None
        self._admission: Admission[EngineSession] = Admission(kv, waiting, grows=grows)
        self._scheduler: Scheduler[EngineSession] = Scheduler(max_batched_tokens)
        self._prefixes = PrefixCache()
        self._changed = threading.Condition()  # holds what other threads read or change
        self._dirty = False
        self._stopping = self._over = False
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self.after_step: Callable[[], None] = lambda: None  # on the worker, once all are told

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
    def kv(self) -> KVSize:
        """The KV there is for sessions."""
        return self._admission.kv

    @property
    def max_block_tokens(self) -> int:
        """Most tokens of a span that need logits: such a span gets its turn, whatever waits."""
        return max_block_tokens(self._scheduler.max_batched_tokens)

    @property
    def steps(self) -> int:
        """Steps so far."""
        return self._scheduler.statistics.steps

    @property
    def pace(self) -> float:
        """Seconds from the end of a step to the end of the next, while they follow each other."""
        return self._scheduler.statistics.pace

    @property
    def load(self) -> Load:
        """Its sessions, the last step and the KV in use."""
        return Load(
            sessions=len(self._admission.sessions),
            waiting=len(self._admission.queue.sessions),
            queued=self._scheduler.queued,
            batched_tokens=self._scheduler.statistics.rows,
            kv_pages_used=self._admission.pages_used,
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
        waits: bool = True,
        spare: bool = False,
    ) -> EngineSession:
        """See paceline.engine.interfaces.Engine. has_room is asked on the worker."""
        self._admission.check_length(max_length, resumes=resumes)
        with self._changed:
            if self._over or self._stopping:
                raise Unavailable("the engine has stopped")
            cache = self._runner.new_cache(max_length)
            session = EngineSession(
                decoder,
                cache,
                Claim(len(tokens), max_length, priority, resumes, spare),
                as_array(tokens),
                None if salt is None else f"{cache.rope_length} {salt}",
                has_room,
            )
            self._admission.enter(session, time.perf_counter(), waits=waits)
        self.wake(session)
        return session

    def close(self, session: EngineSession) -> None:
        """Free `session` before the next step. Closing twice does nothing."""
        session.closed = True
        self.wake(session)

    def wake(self, session: EngineSession) -> None:
        """Have the worker ask the decoders again: what that of `session` wants has changed."""
        with self._changed:
            self._scheduler.gather.asked(session, time.perf_counter())
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
        """Fail the sessions that are left, at once; no more are opened."""
        with self._changed:
            self._over = True
        for session in (*self._admission.sessions, *self._admission.queue.sessions):
            session.fail(Unavailable("the engine has stopped"))
        self._end_of_step()
        with best_effort("ending the runner"):
            self._at_end()

    def _wait_for_work(self) -> bool:
        with self._changed:
            late = self._admission.queue.next_late(time.perf_counter())
            self._changed.wait_for(lambda: self._dirty or self._stopping, late)
            self._dirty = False
            return not self._stopping

    def _step(self) -> bool:
        """Make one step; False when nobody wants one."""
        self._wait_for_others()
        self._free_closed()
        self._let_in()
        self._admit_new()  # after the wait, in which some may have opened
        step = self._scheduler.begin(self._wanted())
        if not step.spans or self._stopping:
            self._end_of_step()  # decoders may have delivered while they planned
            return False
        started = time.perf_counter()
        rows = self._forward(step)
        if rows is not None:
            self._commit(step, rows, started, time.perf_counter())
        return True

    def _forward(self, step: Step[EngineSession]) -> Sequence[Rows] | None:
        """Rows of each span; None where the forward pass failed, and with it the sessions."""
        try:
            rows = self._run([(session.cache, span) for session, span in step.spans])
            if len(rows) == len(step.spans):
                return rows
            raise ValueError(f"logits of {len(rows)} spans")
        except Exception:
            _log.exception("forward pass failed", sessions=len(step.spans))
            self._check_runner()
            for session, _ in step.spans:
                session.fail(Internal("the forward pass failed"))
            self._end_of_step()
            return None

    def _check_runner(self) -> None:
        """Raise when a step of one token fails as well: then no session is to blame."""
        self._runner.forward([(self._runner.new_cache(), Span(0, (0,), 1))])

    def _end_of_step(self) -> None:
        with best_effort("after_step"):
            self.after_step()

    def _commit(
        self, step: Step[EngineSession], given: Sequence[Rows], started: float, ended: float
    ) -> None:
        """Measure the step and give the sessions their rows."""
        measured = self._scheduler.end(step, started, ended)
        report = StepReport(
            measured.seconds,
            self.load,
            self._scheduler.statistics.cost_model,
            lambda: time.perf_counter() - ended,
        )
        for (session, span), rows in zip(step.spans, given, strict=True):
            if session not in step.pieces:
                self._answer(session, span, rows, report)
        self._end_of_step()
        with best_effort("on_step"):  # last: no session waits for a metric
            self._watcher.on_step(measured)
        with self._changed:
            self._admission.served([session for session, _ in step.spans])

    def _answer(self, session: EngineSession, span: Span, rows: Rows, report: StepReport) -> None:
        gather = self._scheduler.gather
        with self._changed:  # first, as it may ask as soon as it is told
            gather.answered(session, time.perf_counter())
        session.commit(span, rows, report)
        if not session.idle:
            with self._changed:
                gather.goes_on(session)

    def _wait_for_others(self) -> None:
        """Wait for those that just got an answer, as long as it pays, so that they share the step.

        Otherwise the first to ask again has a step of its own, and the others wait for the next.
        """
        with self._changed:
            while not self._stopping and (left := self._max_wait()) > 0:
                self._changed.wait_for(self._need_not_wait, left)
            self._dirty = False

    def _need_not_wait(self) -> bool:
        return self._stopping or not self._scheduler.gather.thinking

    def _max_wait(self) -> float:
        """Seconds to wait for one more."""
        if not self._scheduler.gather.thinking:
            return 0.0
        now = time.perf_counter()
        ready = sum(not (session.closed or session.idle) for session in self._admission.sessions)
        return self._scheduler.max_wait(ready, now)

    def _wanted(self) -> list[tuple[EngineSession, Span]]:
        """What sessions want computed, in the order of their precedence; there is KV for it."""
        self._end_spare()
        ranked = [one for one in self._admission.by_precedence() if one.claim.pages]
        able = [session for session in ranked if session.admitted and session.has_room()]
        max_rows, page_tokens = self._scheduler.max_batched_tokens, self.kv.page_tokens
        wanted = [(session, span) for session in able if (span := session.plan(max_rows))]
        longer = [
            (session, end)
            for session, span in wanted
            if (end := span.end) > session.claim.pages * page_tokens
        ]
        if not longer:
            return wanted
        self._grow(longer)
        return [(session, span) for session, span in wanted if session.claim.pages]

    def _grow(self, longer: list[tuple[EngineSession, int]]) -> None:
        """Promise KV for so many tokens of sessions; who is last in rank makes room for it."""
        now = time.perf_counter()
        with self._changed:
            preempted = self._admission.grow(longer, now)
            for session in preempted:
                self._scheduler.gather.forget(session)
        self._end_spare()
        for session in preempted:
            self._preempt(session, now)
        self._prefixes.evict(self._admission.free_pages)

    def _preempt(self, session: EngineSession, now: float) -> None:
        if self._admission.drops or session.claim.spare:
            session.fail(self._admission.full(session.claim, now))
        session.preempt(self._runner.new_cache(session.claim.max_length))
        if not session.claim.spare:
            with best_effort("on_preempt"):
                self._watcher.on_preempt()

    def _end_spare(self) -> None:
        """Free spare sessions whose KV others have been promised."""
        with self._changed:
            gave_way = self._admission.take_gave_way()
        for session in gave_way:
            session.fail(ResourceExhausted("KV is full: the session was spare"))
            session.cache = self._runner.new_cache()

    def _free_closed(self) -> None:
        now = time.perf_counter()
        with self._changed:
            closed = self._admission.remove_closed()
            late = self._admission.queue.remove_late(now)
            for session in (*closed, *late):
                self._scheduler.gather.forget(session)
        for session in late:
            session.fail(self._admission.queue.late_error(now))
        for session in closed:
            if (prefix := session.prefix(self.kv)) is not None:
                self._prefixes.add(prefix)
            session.cache = self._runner.new_cache()  # its stream may still know the session
        self._prefixes.evict(self._admission.free_pages)

    def _let_in(self) -> None:
        """Promise KV to those that wait for it, where there is some again."""
        if not self._admission.queue.sessions:
            return
        now = time.perf_counter()
        with self._changed:
            entered = self._admission.let_in(now)
        for session in entered:
            session.waited_seconds += now - session.claim.since
        self._prefixes.evict(self._admission.free_pages)

    def _admit_new(self) -> None:
        """Give new sessions the KV of those with the same prefix, ended or running."""
        for session in self._admission.sessions:
            if not session.admitted:
                session.admitted = True
                with best_effort("sharing a prefix"):
                    self._share(session)
                if not session.preempted:
                    self._tell_of(session)

    def _tell_of(self, session: EngineSession) -> None:
        with best_effort("on_admit"):
            cached = session.cache.length
            self._watcher.on_admit(session.tokens.size, cached, session.waited_seconds)

    def _share(self, session: EngineSession) -> None:
        if session.salt is None:
            return
        running = (other.prefix(self.kv) for other in self._admission.sessions)
        alive = (prefix for prefix in running if prefix is not None)
        found = self._prefixes.longest_with(session.salt, session.tokens, alive)
        if found is not None:
            cache, length = found
            session.cache = cache.copy(length)


def start_worker(
    settings: EngineSettings,
    runner: Runner,
    registry: CollectorRegistry,
    *,
    batch_invariant: bool = True,
    kv_pages: int | None = None,
    at_end: Callable[[], None] = lambda: None,
) -> EngineWorker:
    """Start an engine that owns `runner`, watched by `registry`.

    batch_invariant: whether a row of the runner has the same bits however it is computed. kv_pages:
    where not the settings say how many there are. at_end: once the engine needs the runner no more.
    """
    metrics = EngineMetrics(registry)
    engine = EngineWorker(
        runner,
        max_batched_tokens=settings.max_batched_tokens,
        kv_pages=settings.kv_tokens // runner.page_tokens if kv_pages is None else kv_pages,
        reserve_pages=settings.kv_reserve_tokens // runner.page_tokens,
        waiting=settings.waiting,
        preempts=batch_invariant,
        watcher=metrics,
        at_end=at_end,
    )
    metrics.watch(lambda: engine.load)
    engine.start()
    return engine
