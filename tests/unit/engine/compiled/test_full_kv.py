"""The compiled step behind an engine whose KV is full: more streams than it has room for."""

from collections.abc import Iterator

import pytest
import torch

from paceline.engine.compiled.engine import CompiledEngine
from paceline.engine.compiled.pool import CompiledPool
from paceline.engine.compiled.runner import CompiledRunner
from paceline.engine.core.waiting import WaitingLimits
from paceline.engine.drafts.preparation import prepare, read_source
from paceline.engine.interfaces import PAGE_TOKENS, Span
from paceline.engine.prepared.draft_file import PreparedDraft, read_prepared
from paceline.engine.torch.loading import load_model
from paceline.engine.worker import EngineWorker
from tests.prepared_drafts import some_tokens
from tests.tiny_models import tiny_model
from tests.unit.engine.test_worker import WAIT_SECONDS, Recording

ENGINE = CompiledEngine()
pytestmark = pytest.mark.skipif(bool(ENGINE.why_not()), reason=f"not here: {ENGINE.why_not()}")
PAGES = 3
"""Room for one stream, which grows into its second page, and for one page of what ended."""
STREAMS = 6
STEPS = 20


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> PreparedDraft:
    folder = tmp_path_factory.mktemp("full")
    model = tiny_model(folder / "tiny", dtype="bfloat16", heads=(2, 1), initializer_range=0.05)
    loaded = load_model(model, torch.bfloat16, "cpu", "int4")
    prepare(read_source(model, loaded), folder / "file", ENGINE)
    return read_prepared(folder / "file")


@pytest.fixture
def engine(draft: PreparedDraft) -> Iterator[EngineWorker]:
    engine = EngineWorker(
        CompiledRunner(draft, threads=1, pages=PAGES),
        max_batched_tokens=256,
        kv_pages=PAGES,
        waiting=WaitingLimits(STREAMS, WAIT_SECONDS),
        preempts=False,
    )
    engine.start()
    yield engine
    engine.stop()


def stream(number: int) -> Recording:
    """One that begins as no other does."""
    decoder = Recording(0, STEPS)
    decoder.tokens = [number, *some_tokens(PAGE_TOKENS - 10, number)]
    return decoder


def alone(draft: PreparedDraft, tokens: list[int]) -> list[int]:
    """What follows, where there is room enough."""
    runner = CompiledRunner(draft, threads=1, pages=PAGES)
    cache, found = runner.new_cache(), list(tokens)
    for _ in range(STEPS):
        new = tuple(found[cache.length :])
        [[row]] = runner.forward([(cache, Span(cache.length, new, 1))])
        found.append(int(row.argmax()))
    return found


def test_kv_that_is_full_grows_no_more_and_holds_what_each_stream_wrote(
    draft: PreparedDraft, engine: EngineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown: list[int] = []
    resize = CompiledPool._resize

    def noted(pool: CompiledPool, pages: int) -> None:
        grown.append(pages)
        resize(pool, pages)

    wanted = [alone(draft, stream(number).tokens) for number in range(STREAMS)]
    monkeypatch.setattr(CompiledPool, "_resize", noted)
    for _ in range(2):  # the second time what was kept of the last is there, and is given up
        decoders = [stream(number) for number in range(STREAMS)]
        length = len(wanted[0])
        sessions = [engine.open(one, one.tokens, length) for one in decoders]
        for decoder in decoders:
            assert decoder.done.wait(WAIT_SECONDS)
            engine.close(sessions.pop(0))
        assert [one.error for one in decoders] == [None] * STREAMS
        assert [one.tokens for one in decoders] == wanted
    assert grown == []
