"""The forward pass over a ragged batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paceline.engine.interfaces import PAGE_TOKENS, KVCache, Logits, Rows, Span, SpanBranch
from paceline.engine.torch.attention import SpanRows, Spans
from paceline.engine.torch.kv_cache import SessionCache
from paceline.engine.torch.padding import Padding
from paceline.engine.torch.sampling.spans import picked_spans, split

ForwardPass = Callable[[Tensor, Tensor, Spans, Tensor], Tensor]
"""Tokens [rows], positions [rows], where spans lie, rows wanted: logits [wanted, vocabulary]."""


class BatchRunner(ABC):
    """Runs spans of many sessions as one flat row of tokens. One thread owns it."""

    page_tokens = PAGE_TOKENS
    picks = True
    """Whether tokens are picked where the logits are."""

    @torch.inference_mode()
    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """See paceline.engine.interfaces.Runner."""
        return split(self._logits(batch), [span.wanted_rows for _, span in batch])

    @torch.inference_mode()
    def forward_and_pick(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Rows]:
        """See paceline.engine.interfaces.PickingRunner."""
        logits, spans = self._logits(batch), [span for _, span in batch]
        if self.picks:
            return picked_spans(logits, spans)
        return [*split(logits, [span.wanted_rows for span in spans])]

    @abstractmethod
    def _logits(self, batch: Sequence[tuple[KVCache, Span]]) -> Tensor:
        """Logits of all rows that are wanted, [rows, vocabulary], on the device."""


class ModelRunner(BatchRunner):
    """Of any device: KV of each session by itself, attention span by span."""

    def __init__(
        self,
        forward: ForwardPass,
        device: torch.device,
        padding: Padding,
        rope_length: Callable[[int], int] = lambda _: 0,
        *,
        picks: bool = False,
    ) -> None:
        """Run `forward`, whose weights lie on `device`.

        rope_length: of a session's maximum length, see paceline.engine.torch.rotary. picks: whether
        tokens are picked on the device.
        """
        self.picks = picks
        self._reach = rope_length
        self._forward = forward
        self._device = device
        self._padding = padding

    def new_cache(self, max_length: int = 0) -> SessionCache:
        """An empty cache."""
        return SessionCache(self._padding, self._reach(max_length))

    def _logits(self, batch: Sequence[tuple[KVCache, Span]]) -> Tensor:
        """See BatchRunner."""
        rows, tokens, positions = _flatten(batch)
        wanted = [
            row
            for span_rows, (_, span) in zip(rows, batch, strict=True)
            for row in range(span_rows.stop - span.logit_rows, span_rows.end)
        ]
        logits = self._forward(
            self._tensor(tokens), self._tensor(positions), rows, self._tensor(wanted)
        )[: len(wanted)]
        for span_rows in rows:
            span_rows.cache.extend(span_rows.stop - span_rows.start)
        return logits

    def _tensor(self, values: list[int]) -> Tensor:
        """`values`, with zeros appended for rows that nobody reads."""
        unread = self._padding.rows(len(values)) - len(values)
        return torch.tensor(values + [0] * unread, device=self._device)


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
        cache.begin(span)
        rows.append(_rows_of(cache, span, len(tokens)))
        parts: tuple[Span | SpanBranch, ...] = (span, *span.branches)
        for part in parts:
            tokens += part.token_ids
            positions += range(part.position, part.position + len(part.token_ids))
    return rows, tokens, positions


def _rows_of(cache: SessionCache, span: Span, start: int) -> SpanRows:
    """Rows from `start` on: the span's, then those of each branch."""
    stop = start + len(span.token_ids)
    branches: list[SpanRows] = []
    for branch in span.branches:
        begin = branches[-1].stop if branches else stop
        end = begin + len(branch.token_ids)
        branches.append(SpanRows(cache, branch.position, begin, end))
    return SpanRows(cache, span.position, start, stop, tuple(branches))
