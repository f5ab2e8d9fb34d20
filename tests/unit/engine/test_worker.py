"""The engine: bounded, fair, one batch a step; one session's bug is that session's alone."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from paceline.engine.core import scheduler as module
from paceline.engine.core.step_start import StepStart
from paceline.engine.core.step_statistics import StepMeasurement
from paceline.engine.interfaces import KVCache, Logits, Rows, Span, StepReport
from paceline.engine.metrics import EngineWatcher
from paceline.engine.worker import EngineWorker
from paceline.errors import Internal, PacelineError, ResourceExhausted, Unavailable
from tests.table_model import TableRunner

WAIT_SECONDS = 20.0


class Recording:
    """A decoder that runs a prompt, then single tokens, and records what it gets."""

    def __init__(self, prompt: int, steps: int) -> None:
        self.tokens = [1] * prompt
        self.steps = steps
        self.rows: list[Logits] = []
        self.reports: list[StepReport] = []
        self.error: PacelineError | None = None
        self.done = threading.Event()

    @property
    def idle(self) -> bool:
        return False

    def plan(self, cached: int) -> Span | None:
        if self.steps == 0:
            return None
        start = min(cached, len(self.tokens) - 1)
        return Span(start, tuple(self.tokens[start:]), 1)

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        assert isinstance(rows, np.ndarray)
        self.rows.append(rows[0])
        self.reports.append(report)
        self.tokens.append(int(rows[0].argmax()))
        self.steps -= 1
        if self.steps == 0:
            self.done.set()

    def kept(self, cached: int) -> list[int]:
        return self.tokens[:cached]

    def fail(self, error: PacelineError) -> None:
        self.error = error
        self.done.set()


class Watching(EngineWatcher):
    """Notes what an engine tells. admitted: tokens of each session, and how many were cached."""

    def __init__(self) -> None:
        self.steps: list[StepMeasurement] = []
        self.admitted: list[tuple[int, int]] = []
        self.waited: list[float] = []
        self.preemptions = 0

    def on_step(self, step: StepMeasurement) -> None:
        self.steps.append(step)

    def on_admit(self, tokens: int, cached: int, waited: float) -> None:
        self.admitted.append((tokens, cached))
        self.waited.append(waited)

    def on_preempt(self) -> None:
        self.preemptions += 1


MakeEngine = Callable[..., EngineWorker]


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    engines: list[EngineWorker] = []

    def make(runner: TableRunner | None = None, **settings: Any) -> EngineWorker:
        engine = EngineWorker(
            runner or TableRunner(), **{"max_batched_tokens": 8, "kv_pages": 8, **settings}
        )
        engines.append(engine)
        engine.start()
        return engine

    yield make
    for engine in engines:
        engine.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(int(WAIT_SECONDS * 200)):
        if condition():
            return
        done.wait(0.005)
    raise AssertionError("the condition never came to hold")


def test_a_prompt_runs_in_pieces_beside_steps_of_others(make_engine: MakeEngine) -> None:
    runner = TableRunner()
    engine = make_engine(runner)
    long, short = Recording(40, 3), Recording(2, 12)
    engine.open(long, long.tokens, 43)
    engine.open(short, short.tokens, 14)
    assert long.done.wait(WAIT_SECONDS)
    assert short.done.wait(WAIT_SECONDS)
    assert max(runner.rows) <= 8
    for decoder, prompt in ((long, 40), (short, 2)):
        alone = [runner.logits(decoder.tokens[: prompt + i]) for i in range(len(decoder.rows))]
        assert [row.tolist() for row in decoder.rows] == [row.tolist() for row in alone]
    assert {report.load.sessions for report in long.reports} <= {1, 2}


def ran(engine: EngineWorker, decoder: Recording, **settings: Any) -> Recording:
    others = engine.load.sessions
    session = engine.open(decoder, decoder.tokens, len(decoder.tokens) + 8, **settings)
    assert decoder.done.wait(WAIT_SECONDS)
    engine.close(session)
    wait_until(lambda: engine.load.sessions == others)
    return decoder


def test_who_begins_alike_finds_the_kv_there_and_gets_the_same_bits(
    make_engine: MakeEngine,
) -> None:
    runner = TableRunner()
    admitted = (watching := Watching()).admitted
    engine = make_engine(runner, kv_pages=12, watcher=watching)
    first = ran(engine, Recording(40, 3))
    same = ran(engine, Recording(40, 3))
    other_salt = ran(engine, Recording(40, 3), salt="mine")
    nobody = ran(engine, Recording(40, 3), salt=None)
    assert admitted == [(40, 0), (40, 40), (40, 0), (40, 0)]
    for decoder in (same, other_salt, nobody):
        assert [row.tolist() for row in decoder.rows] == [row.tolist() for row in first.rows]
    longer = Recording(50, 2)
    longer.tokens = [*first.tokens[:42], *[2] * 8]
    ran(engine, longer)
    assert admitted[-1] == (50, 42)
    assert longer.rows[0].tolist() == runner.logits(longer.tokens[:50]).tolist()


def test_a_session_shares_its_prompt_while_it_still_runs(make_engine: MakeEngine) -> None:
    admitted = (watching := Watching()).admitted
    engine = make_engine(watcher=watching)
    running = Recording(40, 1)
    engine.open(running, running.tokens, 48)
    assert running.done.wait(WAIT_SECONDS)
    ran(engine, Recording(40, 2))
    assert admitted == [(40, 0), (40, 40)]


def test_prefixes_give_way_to_sessions(make_engine: MakeEngine) -> None:
    engine = make_engine(kv_pages=4)
    ran(engine, Recording(40, 1))
    big = Recording(1, 1)
    big.tokens = [2] * 40
    engine.open(big, big.tokens, 48)
    assert big.done.wait(WAIT_SECONDS)
    another = Recording(5, 1)
    session = engine.open(another, another.tokens, 16)
    assert another.done.wait(WAIT_SECONDS)
    engine.close(session)
    wait_until(lambda: engine.load.sessions == 1)
    assert engine.load.kv_pages_used == 3


class Noting(Recording):
    """Wants a whole step each time, and notes when it got one."""

    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__(8, 3)
        self.name = name
        self.order = order

    def plan(self, cached: int) -> Span | None:
        return Span(0, (1,) * 8, 8) if self.steps else None

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        self.order.append(self.name)
        super().commit(span, rows, report)


@pytest.mark.parametrize(
    ("priorities", "expected"),
    [((0, 1), "bbbaaa"), ((1, 0), "aaabbb"), ((-1, -1), "ababab")],
)
def test_a_higher_priority_goes_first_and_equals_take_turns(
    priorities: tuple[int, int], expected: str
) -> None:
    order: list[str] = []
    engine = EngineWorker(TableRunner(), max_batched_tokens=8, kv_pages=8)
    decoders = [Noting(name, order) for name in "ab"]
    for decoder, priority in zip(decoders, priorities, strict=True):
        engine.open(decoder, decoder.tokens, 16, salt=None, priority=priority)
    engine.start()
    for decoder in decoders:
        assert decoder.done.wait(WAIT_SECONDS)
    engine.stop()
    assert "".join(order) == expected


def test_pages_are_promised_at_opening_refused_when_gone_and_freed(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(kv_pages=4, reserve_pages=1)
    idle = [Recording(33, 0), Recording(1, 0), Recording(1, 0)]
    first = engine.open(idle[0], idle[0].tokens, 33)
    assert engine.load.kv_pages_used == 3
    with pytest.raises(ResourceExhausted, match="1 pages needed, 0 free"):
        engine.open(idle[1], idle[1].tokens, 16)
    reserved = engine.open(idle[1], idle[1].tokens, 16, resumes=True)
    with pytest.raises(ResourceExhausted):
        engine.open(idle[2], idle[2].tokens, 16, resumes=True)
    engine.close(first)
    engine.close(first)
    engine.close(reserved)
    wait_until(lambda: engine.load.kv_pages_used == 0 and engine.load.sessions == 0)
    engine.open(idle[2], idle[2].tokens, 48)


class Buggy(Recording):
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__(1, 1)
        self.where = where

    def plan(self, cached: int) -> Span | None:
        if self.where == "plan":
            raise ZeroDivisionError
        return super().plan(cached)

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("where", ["plan", "commit"])
def test_a_decoders_bug_ends_its_session_and_no_other(make_engine: MakeEngine, where: str) -> None:
    engine = make_engine()
    buggy, healthy = Buggy(where), Recording(3, 20)
    engine.open(buggy, buggy.tokens, 9)
    engine.open(healthy, healthy.tokens, 30)
    assert healthy.done.wait(WAIT_SECONDS)
    assert buggy.done.wait(WAIT_SECONDS)
    assert isinstance(buggy.error, Internal)
    assert healthy.error is None
    wait_until(lambda: engine.load.sessions == 1)


class BrokenOnce(TableRunner):
    """A forward pass that fails the first time."""

    broken = True

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        if self.broken:
            self.broken = False
            raise MemoryError
        return super().forward(batch)


def test_a_failed_forward_pass_ends_the_sessions_in_it_and_the_engine_goes_on(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(BrokenOnce())
    first = Recording(1, 1)
    engine.open(first, first.tokens, 9)
    assert first.done.wait(WAIT_SECONDS)
    assert isinstance(first.error, Internal)
    second = Recording(1, 1)
    engine.open(second, second.tokens, 9)
    assert second.done.wait(WAIT_SECONDS)
    assert second.error is None
    assert engine.alive


def test_stopping_fails_the_sessions_that_are_left() -> None:
    engine = EngineWorker(TableRunner(), max_batched_tokens=8, kv_pages=8)
    engine.start()
    decoder = Recording(1, 0)
    engine.open(decoder, decoder.tokens, 9)
    engine.stop()
    assert isinstance(decoder.error, Unavailable)
    assert not engine.alive


def test_each_step_is_reported() -> None:
    steps = (watching := Watching()).steps
    engine = EngineWorker(TableRunner(), max_batched_tokens=8, kv_pages=8, watcher=watching)
    decoder = Recording(3, 2)
    engine.open(decoder, decoder.tokens, 9)
    engine.start()
    assert decoder.done.wait(WAIT_SECONDS)
    engine.stop()
    assert [(step.rows, step.sessions) for step in steps] == [(3, 1), (1, 1)]
    assert engine.steps == 2


class Thinking(Recording):
    """Asks for a step, and for the next one a while after the answer."""

    def __init__(self, steps: int) -> None:
        super().__init__(1, steps)
        self.asked = True
        self.answered = threading.Semaphore(0)

    @property
    def idle(self) -> bool:
        return bool(self.steps) and not self.asked

    def plan(self, cached: int) -> Span | None:
        return super().plan(cached) if self.asked else None

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        self.asked = False
        super().commit(span, rows, report)
        self.answered.release()


class Patient(StepStart):
    """Waits for all, as long as that takes."""

    def max_wait(self, ready: int, step_seconds: float, now: float) -> float:
        return 1e9 if self.thinking else 0.0


def patient_engine(**more: Any) -> EngineWorker:
    engine = EngineWorker(TableRunner(), max_batched_tokens=64, kv_pages=64, **more)
    engine._scheduler.gather = Patient()
    return engine


def test_those_answered_together_share_the_next_step_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to ask again waits for the others."""
    monkeypatch.setattr(module, "LONGEST_GATHER", 1e9)
    steps = (watching := Watching()).steps
    engine = patient_engine(watcher=watching)
    sessions = [Thinking(3) for _ in range(3)]
    opened = [engine.open(session, session.tokens, 16) for session in sessions]
    engine.start()
    for _ in range(2):
        for session in sessions:
            assert session.answered.acquire(timeout=10)
        for session, key in zip(sessions, opened, strict=True):
            session.asked = True
            engine.wake(key)
    for session in sessions:
        assert session.done.wait(10)
    engine.stop()
    assert [step.sessions for step in steps] == [3, 3, 3]


def test_one_that_opens_while_others_are_waited_for_is_not_forgotten() -> None:
    """Nobody else ever asks again, and none of them is waited for beyond a step."""
    engine = patient_engine()
    silent = [Thinking(3) for _ in range(2)]
    for session in silent:
        engine.open(session, session.tokens, 16)
    engine.start()
    for session in silent:
        assert session.answered.acquire(timeout=10)
    late = Thinking(1)
    engine.open(late, late.tokens, 16)
    assert late.done.wait(10)
    engine.stop()
