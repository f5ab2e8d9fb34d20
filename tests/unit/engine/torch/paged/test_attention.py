"""Attention over pages: what the formula says, and the same bits whatever else is in the step."""

import pytest
import torch
from torch import Tensor

from paceline.engine.interfaces import PAGE_TOKENS, Span
from paceline.engine.pages import PagedCache
from paceline.engine.torch.paged.pool import KVPool
from paceline.engine.torch.paged.step import StepShape, StepTables
from tests.conftest import DEVICE

pytest.importorskip("triton", reason="needs triton: pip install 'paceline[dev]', on Linux")

from paceline.engine.torch.paged import attention
from paceline.engine.torch.paged.attention import Scores, attend_pages

HEADS, KV_HEADS, WIDTH = 4, 2, 24
SPANS = [(0, 1), (37, 5), (500, 11), (1030, 2)]
"""Positions and rows of the sessions of a step."""


class Step:
    """Sessions with random keys and values, and queries of their rows."""

    def __init__(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=generator).to(DEVICE, dtype)

        self.pool = KVPool(8, torch.device(DEVICE))
        like = random(KV_HEADS, 1, WIDTH)
        self.layer = self.pool.layer(0, like, like)
        for one in self.layer:
            one.copy_(random(*one.shape))
        self.batch = [(self.cache(at + rows), Span(at, (1,) * rows, rows)) for at, rows in SPANS]
        self.query = random(HEADS, sum(rows for _, rows in SPANS), WIDTH)

    def cache(self, length: int) -> PagedCache:
        """Of a session with so many tokens."""
        cache = PagedCache(self.pool)
        cache.make_room(0, length)
        return cache

    def attend(self, scores: Scores, sinks: Tensor | None, spans: slice = slice(None)) -> Tensor:
        """The rows of these spans."""
        batch = self.batch[spans]
        counts = [len(span.token_ids) for _, span in self.batch]
        start = sum(counts[: spans.start or 0])
        query = self.query[:, start : start + sum(len(span.token_ids) for _, span in batch)]
        shape = StepShape.of(batch)
        tables = StepTables.of(batch, shape, torch.device(DEVICE))
        return attend_pages(query.contiguous(), self.layer, tables, scores, sinks)

    def defined(self, scores: Scores, sinks: Tensor | None) -> Tensor:
        """By the formula, in float64, row by row."""
        rows = [
            (cache, span.position + index)
            for cache, span in self.batch
            for index in range(span.logit_rows)
        ]
        return torch.stack([self._row(*row, at, scores, sinks) for at, row in enumerate(rows)])

    def _row(
        self, cache: PagedCache, position: int, at: int, scores: Scores, sinks: Tensor | None
    ) -> Tensor:
        keys, values = (
            one[cache.pages].double().transpose(0, 1).reshape(KV_HEADS, -1, WIDTH)
            for one in self.layer
        )
        first = max(0, position + 1 - scores.window) if scores.window else 0
        seen, groups = slice(first, position + 1), HEADS // KV_HEADS
        keys, values = (one[:, seen].repeat_interleave(groups, 0) for one in (keys, values))
        found = torch.einsum("hw,hkw->hk", self.query[:, at].double(), keys) * scores.scale
        if scores.softcap:
            found = scores.softcap * torch.tanh(found / scores.softcap)
        if sinks is not None:
            found = torch.cat((sinks.double()[:, None], found), dim=1)
            values = torch.cat((torch.zeros_like(values[:, :1]), values), dim=1)
        return torch.einsum("hk,hkw->hw", found.softmax(1), values)


CASES = [
    (Scores(0.2), False),
    (Scores(0.2, window=24), False),
    (Scores(0.3, softcap=2.0), False),
    (Scores(0.2, window=300), True),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scores", "with_sinks"), CASES)
def test_rows_are_the_formula_and_alone_have_the_same_bits(
    scores: Scores, with_sinks: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(dtype)
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0], device=DEVICE) if with_sinks else None
    together = step.attend(scores, sinks)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    expected = step.defined(scores, sinks)
    torch.testing.assert_close(together.double(), expected, rtol=0, atol=tolerance)
    alone = [step.attend(scores, sinks, slice(one, one + 1)) for one in range(len(SPANS))]
    assert torch.equal(torch.cat(alone), together)
    monkeypatch.setattr(attention, "MOST_PARTIAL", 1)
    assert torch.equal(step.attend(scores, sinks), together)


def test_a_row_has_the_same_bits_in_every_tile() -> None:
    """A block of eleven rows, and each of them as a step of its own."""
    step, scores = Step(torch.float32), Scores(0.2)
    together = step.attend(scores, None, slice(2, 3))
    cache, span = step.batch[2]
    query = step.query
    for index in range(span.logit_rows):
        step.batch = [(cache, Span(span.position + index, (1,), 1))]
        step.query = query[:, 6 + index : 7 + index]
        assert torch.equal(step.attend(scores, None), together[index : index + 1])


def test_rows_that_nobody_reads_are_zero() -> None:
    step = Step(torch.float32)
    shape = StepShape(32, 32, 4)
    tables = StepTables.of(step.batch, shape, torch.device(DEVICE))
    query = torch.cat((step.query, torch.ones_like(step.query)), dim=1)[:, :32].contiguous()
    found = attend_pages(query, step.layer, tables, Scores(0.2), None)
    rows = step.query.shape[1]
    assert torch.equal(found[:rows], step.attend(Scores(0.2), None))
    assert not found[rows:].any()


def test_pieces_hold_whole_tiles() -> None:
    step = Step(torch.float32)
    tables = StepTables.of(step.batch, StepShape.of(step.batch), torch.device(DEVICE))
    assert tables.counts == (1, 5, 8, 3, 2)
    pieces = [(one.first_row, one.rows, one.first_tile, one.tiles) for one in tables.pieces(8)]
    assert pieces == [(0, 6, 0, 2), (6, 8, 2, 1), (14, 5, 3, 2)]
    assert tables.pages.shape[1] == -(-1032 // PAGE_TOKENS)
