"""The forward pass over a ragged batch, on a model of transformers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from paceline.engine.attention import SpanRows
from paceline.engine.kv import PAGE_ROWS, SessionCache
from paceline.engine.work import KVCache, Logits, Span

MIN_ROWS = 4
"""Fewer rows take longer than 4, a fifth or more in bf16."""
ROW_MULTIPLE = {torch.bfloat16: 2, torch.float32: 4, torch.float64: 4}
"""Linear layers run this many rows or a multiple, by dtype: in other counts the last rows take
another kernel and get other bits. Found on AVX-512; the probe at start-up tells of a machine
where it does not hold."""


class ModelRunner:
    """Runs spans of many sessions as one flat row of tokens. One thread owns it."""

    page_rows = PAGE_ROWS

    def __init__(self, model: PreTrainedModel) -> None:
        """`model` attends with paceline.engine.attention."""
        self._model = model
        self._device = model.device
        self._multiple = ROW_MULTIPLE[model.dtype]

    def new_cache(self) -> SessionCache:
        """An empty cache."""
        return SessionCache()

    @torch.inference_mode()
    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """See paceline.engine.work.Runner."""
        rows, tokens, positions = _flatten(batch)
        wanted = [
            row
            for span_rows, (_, span) in zip(rows, batch, strict=True)
            for row in range(span_rows.stop - span.logit_rows, span_rows.stop)
        ]
        logits = self._model(
            input_ids=self._tensor(tokens)[None],
            position_ids=self._tensor(positions)[None],
            logits_to_keep=self._tensor(wanted or [0]),
            use_cache=False,
            spans=rows,
        ).logits[0, : len(wanted)]
        for span_rows in rows:
            span_rows.cache.extend(span_rows.stop - span_rows.start)
        return _split(logits, [span.logit_rows for _, span in batch])

    def _tensor(self, values: list[int]) -> Tensor:
        """`values`, with zeros appended up to a count that is fast and exact: rows nobody reads."""
        rows = max(MIN_ROWS, len(values))
        padding = [0] * (rows + -rows % self._multiple - len(values))
        return torch.tensor(values + padding, device=self._device)


def _flatten(
    batch: Sequence[tuple[KVCache, Span]],
) -> tuple[list[SpanRows], list[int], list[int]]:
    """Where each span lies in the flat batch, its tokens, and their positions."""
    rows: list[SpanRows] = []
    tokens: list[int] = []
    positions: list[int] = []
    for cache, span in batch:
        if not isinstance(cache, SessionCache):
            raise TypeError(f"{type(cache).__name__} is not of this runner")
        cache.truncate(span.position)
        start = len(tokens)
        tokens += span.token_ids
        positions += range(span.position, span.position + len(span.token_ids))
        rows.append(SpanRows(cache, span.position, start, len(tokens)))
    return rows, tokens, positions


def _split(logits: Tensor, counts: list[int]) -> list[Logits]:
    """Rows of each span, as numpy's float32 or float64."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    array = exact.cpu().numpy()
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [array[end - count : end] for end, count in zip(ends, counts, strict=True)]
