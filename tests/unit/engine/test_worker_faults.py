"""The engine's worker: nothing that a session or a watcher does takes it down."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from paceline.engine.interfaces import KVCache, Logits, Rows, Span, StepReport
from paceline.engine.metrics import EngineWatcher
from paceline.engine.worker import EngineWorker
from paceline.errors import PacelineError, Unavailable
from tests.table_model import TableRunner, TokenCache
from tests.unit.engine.test_worker import (
    WAIT_SECONDS,
    MakeEngine,
    Recording,
    make_engine,
    ran,
)

__all__ = ["make_engine"]


class Fatal(BaseException):
    """No exception that anybody catches."""


class Dying(TableRunner):
    """A forward pass that takes its thread down."""

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        raise Fatal


def test_a_worker_that_dies_ends_all_sessions_at_once_and_none_is_opened_any_more(
    make_engine: MakeEngine,
) -> None:
    told = threading.Event()
    engine = EngineWorker(Dying(), max_batched_tokens=8, kv_pages=8)
    engine.after_step = told.set
    waiting, fatal = Recording(1, 0), Recording(1, 1)
    engine.open(waiting, waiting.tokens, 9)
    engine.open(fatal, fatal.tokens, 9)
    engine.start()
    for decoder in (waiting, fatal):
        assert decoder.done.wait(WAIT_SECONDS)
        assert isinstance(decoder.error, Unavailable)
    assert told.wait(WAIT_SECONDS)
    assert not engine.alive
    with pytest.raises(Unavailable, match="the engine has stopped"):
        engine.open(Recording(1, 1), [1], 9)
    engine.stop()


class Broken(TableRunner):
    """A device that is gone: no forward pass works any more."""

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        raise RuntimeError


def test_a_device_that_is_gone_is_no_sessions_fault() -> None:
    """They go elsewhere, where one whose own step fails would be told of a bug."""
    engine = EngineWorker(Broken(), max_batched_tokens=8, kv_pages=8)
    decoder = Recording(1, 1)
    engine.open(decoder, decoder.tokens, 9)
    engine.start()
    assert decoder.done.wait(WAIT_SECONDS)
    assert isinstance(decoder.error, Unavailable)
    engine.stop()
    assert not engine.alive


class Careless(Recording):
    """Fails where it is told to, once it has had its steps."""

    def __init__(self, where: str) -> None:
        super().__init__(40, 1)
        self.where = where
        self.armed = False

    def _fail_at(self, where: str) -> None:
        if where == self.where and self.armed:
            raise ZeroDivisionError

    @property
    def idle(self) -> bool:
        self._fail_at("idle")
        return False

    def kept(self, cached: int) -> list[int]:
        self._fail_at("kept")
        return super().kept(cached)

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        self.armed = True
        if self.where == "fail":
            raise ZeroDivisionError
        super().commit(span, rows, report)

    def fail(self, error: PacelineError) -> None:
        super().fail(error)
        self._fail_at("fail")


@pytest.mark.parametrize("where", ["idle", "kept", "fail"])
def test_no_method_of_a_decoder_takes_the_worker_down(make_engine: MakeEngine, where: str) -> None:
    engine = make_engine()
    careless = Careless(where)
    session = engine.open(careless, careless.tokens, 48)
    assert careless.done.wait(WAIT_SECONDS)
    engine.close(session)
    ran(engine, Recording(40, 3))
    assert engine.alive


def fails(*_: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("which", ["on_step", "on_admit", "after_step"])
def test_who_watches_takes_nobody_down(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = EngineWatcher()
    engine = EngineWorker(TableRunner(), max_batched_tokens=8, kv_pages=8, watcher=watcher)
    monkeypatch.setattr(engine if which == "after_step" else watcher, which, fails)
    engine.start()
    assert ran(engine, Recording(3, 5)).error is None
    assert engine.alive
    engine.stop()


class Original(TokenCache):
    """Has no copies."""

    def copy(self, length: int) -> TokenCache:
        raise MemoryError


class Uncopied(TableRunner):
    """No room for a copy of what others began with."""

    def new_cache(self, max_length: int = 0) -> TokenCache:
        return Original()


def test_a_prefix_that_cannot_be_copied_is_computed(make_engine: MakeEngine) -> None:
    runner = Uncopied()
    engine = make_engine(runner)
    first, second = ran(engine, Recording(40, 2)), ran(engine, Recording(40, 2))
    assert [row.tolist() for row in second.rows] == [row.tolist() for row in first.rows]
