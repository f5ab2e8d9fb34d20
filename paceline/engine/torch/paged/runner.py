"""The runner of a GPU: KV in pages, all spans in one attention, steps of few rows as CUDA graphs.

A step of few rows takes a GPU less time than Python takes to ask for its hundreds of operations. A
graph asks for all of them at once; its inputs lie in tensors that every such step fills anew.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paceline.engine.interfaces import KVCache, Span
from paceline.engine.pages import PagedCache, own_cache
from paceline.engine.torch.attention import RaggedBatch
from paceline.engine.torch.padding import Padding
from paceline.engine.torch.paged.attention import Scores, attend_pages
from paceline.engine.torch.paged.pool import KVPool
from paceline.engine.torch.paged.step import PagedBatch, StepShape, StepTables
from paceline.engine.torch.runner import BatchRunner, ForwardPass

Replay = Callable[[], Tensor]
Capture = Callable[[Callable[[], Tensor]], Replay]
"""Makes of a function that computes on fixed tensors one that does so at once."""

GRAPH_ROWS = (4, 8, 16, 32, 64)
"""Rows of the steps that graphs are made for."""
GRAPH_PAGES = (1, 2, 4, 8, 16)
"""Most pages of a session in them."""


class PagedSpans(RaggedBatch):
    """What attention is told of a step: its spans' sessions, and where rows lie in the pages."""

    def __init__(self, pool: KVPool, tables: StepTables, rope_lengths: Sequence[int]) -> None:
        """rope_lengths: of each row's session."""
        self._pool, self._tables = pool, tables
        self._rope_lengths = rope_lengths

    def rows_by_rope_length(self) -> dict[int, list[int]]:
        """See RaggedBatch."""
        rows: dict[int, list[int]] = {}
        for row, length in enumerate(self._rope_lengths):
            if length:
                rows.setdefault(length, []).append(row)
        return rows

    def attend(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
        sinks: Tensor | None,
        softcap: float | None,
    ) -> Tensor:
        """See RaggedBatch."""
        layer = self._pool.layer(index, key, value)
        self._tables.append(layer, key, value)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        scores = Scores(scale, window or 0, softcap or 0.0)
        return attend_pages(query.contiguous(), layer, self._tables, scores, sinks)


class PagedRunner(BatchRunner):
    """Of a GPU: KV of all sessions in pages, one attention for all spans."""

    def __init__(
        self,
        forward: ForwardPass,
        device: torch.device,
        padding: Padding,
        pages: int,
        rope_length: Callable[[int], int] = lambda _: 0,
        capture: Capture | None = None,
    ) -> None:
        """Run `forward`, whose weights lie on `device`, with so many pages of KV.

        padding: of rows; attention needs none here. capture: makes graphs of steps of few rows;
        None: there are none.
        """
        self._forward, self._device, self._padding = forward, device, padding
        self._pool = KVPool(pages, device)
        self._reach = rope_length
        self._graphs = None if capture is None else StepGraphs(self._run, device, capture)

    def new_cache(self, max_length: int = 0) -> PagedCache:
        """An empty cache."""
        return PagedCache(self._pool, self._reach(max_length))

    def _logits(self, given: Sequence[tuple[KVCache, Span]]) -> Tensor:
        """See BatchRunner."""
        batch = [(own_cache(cache), span) for cache, span in given]
        for cache, span in batch:
            cache.truncate(span.position)
            cache.make_room(span.position, span.position + len(span.token_ids))
        logits = None if self._graphs is None else self._graphs.logits(batch, self._pool.moved)
        if logits is None:
            logits = self._eager(batch)
        for cache, span in batch:
            cache.extend(len(span.token_ids))
        return logits

    def _eager(self, batch: PagedBatch) -> Tensor:
        """Without a graph."""
        shape = StepShape.of(batch)
        shape = StepShape(self._padding.rows(shape.rows), shape.tiles, shape.pages)
        tables = StepTables.of(batch, shape, self._device)
        rows = _wanted(batch)
        unread = self._padding.rows(len(rows)) - len(rows)
        wanted = torch.tensor(rows + [0] * unread, device=self._device)
        lengths = [cache.rope_length for cache, span in batch for _ in span.token_ids]
        return self._run(tables, wanted, lengths)[: len(rows)]

    def _run(self, tables: StepTables, wanted: Tensor, rope_lengths: Sequence[int] = ()) -> Tensor:
        spans = PagedSpans(self._pool, tables, rope_lengths)
        return self._forward(tables.tokens, tables.positions.clamp(min=0), spans, wanted)


class StepGraphs:
    """Graphs of steps of few rows, of all of which logits are wanted: made when first needed."""

    def __init__(
        self,
        run: Callable[[StepTables, Tensor], Tensor],
        device: torch.device,
        capture: Capture,
    ) -> None:
        """Of `run`, which computes logits of the rows wanted."""
        self._run, self._device, self._capture = run, device, capture
        self._made: dict[StepShape, tuple[StepTables, Replay]] = {}
        self._moved = 0
        self._seen: set[StepShape] = set()

    def logits(self, batch: PagedBatch, moved: int) -> Tensor | None:
        """Of all rows; None where the step has none of the shapes, or for the first time.

        moved: how often pages have moved; graphs know their addresses.
        """
        shape = _graph_shape(batch)
        if shape is None:
            return None
        if moved != self._moved:
            self._made, self._moved = {}, moved
        if shape not in self._seen:  # kernels are compiled in a step without a graph
            self._seen.add(shape)
            return None
        tables = StepTables.of(batch, shape, self._device)
        if shape not in self._made:
            self._made[shape] = self._make(tables)
        fixed, replay = self._made[shape]
        fixed.take(tables)
        return replay()[: sum(len(span.token_ids) for _, span in batch)]

    def _make(self, tables: StepTables) -> tuple[StepTables, Replay]:
        """Tensors at fixed addresses, and what computes on them."""
        fixed = tables.fixed()
        wanted = torch.arange(fixed.rows.shape[1], device=self._device)
        return fixed, self._capture(lambda: self._run(fixed, wanted))


def cuda_graph(compute: Callable[[], Tensor]) -> Replay:
    """A CUDA graph of `compute`, which has run before."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is set up at a first call must not be in the graph
        compute()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def _graph_shape(batch: PagedBatch) -> StepShape | None:
    """The least shape of a graph that holds the step; None where there is none."""
    if any(span.logit_rows < len(span.token_ids) or cache.rope_length for cache, span in batch):
        return None
    needs = StepShape.of(batch)
    rows = next((one for one in GRAPH_ROWS if one >= needs.rows), None)
    pages = next((one for one in GRAPH_PAGES if one >= needs.pages), None)
    return None if rows is None or pages is None else StepShape(rows, rows, pages)


def _wanted(batch: PagedBatch) -> list[int]:
    """Rows whose logits are wanted: the last ones of each span."""
    wanted: list[int] = []
    end = 0
    for _, span in batch:
        end += len(span.token_ids)
        wanted += range(end - span.logit_rows, end)
    return wanted
