"""The engine's limits: what never fits is refused by name, what does is never left to wait."""

import threading

import pytest

from paceline.engine.interfaces import Rows, Span, StepReport
from paceline.engine.worker import EngineWorker
from paceline.errors import Internal, InvalidArgument, ResourceExhausted
from tests.table_model import TableRunner
from tests.unit.engine.test_worker import (
    WAIT_SECONDS,
    MakeEngine,
    Noting,
    Recording,
    make_engine,
    wait_until,
)

__all__ = ["make_engine"]


def test_what_never_fits_is_refused_for_good_and_what_does_not_now_is_not(
    make_engine: MakeEngine,
) -> None:
    """4 pages of 16, of which 1 is for streams that come from a lost server."""
    engine = make_engine(kv_pages=4, reserve_pages=1)
    holder, other = Recording(49, 0), Recording(48, 0)
    limit = "tokens of prompt and max_tokens together is 49; it must be at most 48"
    with pytest.raises(InvalidArgument, match=limit):
        engine.open(other, other.tokens, 49)
    held = engine.open(holder, holder.tokens, 49, resumes=True)
    with pytest.raises(InvalidArgument, match="is 65; it must be at most 64"):
        engine.open(other, other.tokens, 65, resumes=True)
    with pytest.raises(ResourceExhausted, match="3 pages needed, 0 free"):
        engine.open(other, other.tokens, 48)
    engine.close(held)
    wait_until(lambda: engine.load.kv_pages_used == 0)
    engine.open(other, other.tokens, 48)


class Blocked(Recording):
    """Wants logits of so many rows at once, behind some that it has not computed yet."""

    def __init__(self, rows: int, logit_rows: int) -> None:
        super().__init__(rows, 1)
        self.logit_rows = logit_rows
        self.prompts: list[Recording] = []
        self.was_first = False

    def plan(self, cached: int) -> Span | None:
        if self.steps == 0:
            return None
        start = min(cached, len(self.tokens) - self.logit_rows)
        return Span(start, tuple(self.tokens[start:]), self.logit_rows)

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Notes, on the worker's thread, whether the prompts were still waiting."""
        self.was_first = not any(prompt.done.is_set() for prompt in self.prompts)
        super().commit(span, rows, report)


@pytest.mark.parametrize(("rows", "logit_rows"), [(48, 48), (64, 40), (95, 48)])
def test_a_long_block_gets_its_turn_while_prompts_wait(rows: int, logit_rows: int) -> None:
    """64 rows a step, and prompts that take all they are left for a hundred steps."""
    engine = EngineWorker(TableRunner(), max_batched_tokens=64, kv_pages=500)
    assert engine.max_block_tokens == 48
    prompts = [Recording(1000, 1) for _ in range(2)]
    block = Blocked(rows, logit_rows)
    block.prompts = prompts
    for decoder in (*prompts, block):
        engine.open(decoder, decoder.tokens, len(decoder.tokens) + 8, salt=None)
    engine.start()
    assert block.done.wait(WAIT_SECONDS)
    assert block.error is None
    assert block.was_first
    for prompt in prompts:
        assert prompt.done.wait(WAIT_SECONDS)
    engine.stop()


def test_a_span_that_no_step_could_hold_ends_its_session(make_engine: MakeEngine) -> None:
    engine = make_engine()
    block = Blocked(9, 9)
    engine.open(block, block.tokens, 16)
    assert block.done.wait(WAIT_SECONDS)
    assert isinstance(block.error, Internal)
    assert "9 rows; the limit is 8" in str(block.error)


def test_all_of_many_blocks_get_their_turns(make_engine: MakeEngine) -> None:
    order: list[str] = []
    engine = EngineWorker(TableRunner(), max_batched_tokens=8, kv_pages=64)
    decoders = [Noting(name, order) for name in "abcdef"]
    for decoder in decoders:
        engine.open(decoder, decoder.tokens, 16, salt=None)
    engine.start()
    for decoder in decoders:
        assert decoder.done.wait(WAIT_SECONDS)
    engine.stop()
    assert "".join(order) == "abcdef" * 3


def test_a_session_whose_answers_nobody_takes_is_asked_for_no_more(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine()
    full, other = Recording(1, 5), Recording(1, 20)
    room = threading.Event()
    session = engine.open(full, full.tokens, 9, has_room=room.is_set)
    engine.open(other, other.tokens, 30)
    assert other.done.wait(WAIT_SECONDS)
    assert not full.rows
    room.set()
    engine.wake(session)
    assert full.done.wait(WAIT_SECONDS)
