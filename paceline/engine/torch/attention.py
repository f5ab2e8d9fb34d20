"""Attention of a ragged batch: each span over its own cache, batch-invariant.

The bits of scaled_dot_product_attention depend on the length of KV and on small or uneven query
counts. With padded KV and query rows (padding) a row has the same bits alone, in a verify block
and in a prefill.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from paceline.engine.torch.kv_cache import LayerCache, SessionCache
from paceline.engine.torch.padding import Padding
from paceline.engine.torch.query_limit import most_queries
from paceline.engine.torch.softcap import capped_attention

NAME = "paceline"
"""What transformers calls this attention."""


HARMLESS = {
    *("dropout", "position_ids", "cache_position", "use_cache", "is_causal"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "return_dict"),
}
"""Arguments of models that change nothing: all is causal, nothing is dropped or returned."""

_SPANS: ContextVar["Spans"] = ContextVar("spans")
_CALLS: ContextVar[list[int] | None] = ContextVar("calls", default=None)


@contextlib.contextmanager
def attending(spans: "Spans") -> Iterator[None]:
    """Tell attention where the rows of a forward pass lie; not all models pass arguments on."""
    before = _SPANS.set(spans)
    try:
        yield
    finally:
        _SPANS.reset(before)


def current_spans() -> "Spans":
    """Where the rows of the running forward pass lie."""
    return _SPANS.get()


@contextlib.contextmanager
def noting_calls() -> Iterator[list[int]]:
    """The layers whose attention is called within the context, once for each call."""
    calls: list[int] = []
    before = _CALLS.set(calls)
    try:
        yield calls
    finally:
        _CALLS.reset(before)


def note_call(index: int) -> None:
    """Note that the attention of a layer is called."""
    if (calls := _CALLS.get()) is not None:
        calls.append(index)


@dataclass(eq=False, slots=True)
class SpanRows:
    """A span in the flat batch: rows start to stop, at `position` in its session.

    branches: rows that follow, each as if it were a span at its own position.
    """

    cache: SessionCache
    position: int
    start: int
    stop: int
    branches: "tuple[SpanRows, ...]" = ()
    masks: dict[tuple[int | None, int, bool], Tensor | None] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Behind the last row, also of branches."""
        return self.branches[-1].stop if self.branches else self.stop

    @property
    def in_turn(self) -> "Iterator[SpanRows]":
        """The span, then its branches from the last fork to the first.

        Each writes its keys over the span's own: what an earlier one needs of these stands before
        all that a later one writes.
        """
        yield self
        yield from sorted(self.branches, key=lambda branch: branch.position, reverse=True)

    def mask(
        self, window: int | None, groups: int, like: Tensor, sinks: Tensor | None = None
    ) -> Tensor | None:
        """Additive mask, [groups * rows, padded length]: causal, and within a sliding window.

        None where there is nothing to hide. Finite: a block that is masked as a whole must
        get weights that the next block rescales to 0, not NaN. Made once for all layers of a
        kind. sinks: [heads], what each head's first key, of no token, scores; the mask is then
        [kv_heads, groups * rows, padded length].
        """
        key = (window, groups, sinks is not None)
        if key not in self.masks:
            self.masks[key] = self._make_mask(window, groups, like, int(sinks is not None))
        mask = self.masks[key]
        if sinks is None or mask is None:
            return mask
        scores = sinks.view(-1, groups).repeat_interleave(self.stop - self.start, 1)
        of_heads = mask.expand(scores.shape[0], *mask.shape).clone()
        of_heads[:, : scores.shape[1], 0] = scores.to(mask.dtype)
        return of_heads

    def _make_mask(self, window: int | None, groups: int, like: Tensor, lead: int) -> Tensor | None:
        """lead: keys before that of the first token, which all see."""
        padding = self.cache.padding
        end = self.position + self.stop - self.start
        length = padding.keys(end + lead)
        if end - self.position == 1 and length == end and window is None:
            return None
        queries = torch.arange(self.position, end, device=like.device)[:, None]
        keys = torch.arange(-lead, length - lead, device=like.device)[None]
        hidden = keys > queries
        if window is not None:
            hidden |= (keys <= queries - window) & (keys >= 0)
        mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
        mask.masked_fill_(hidden, torch.finfo(like.dtype).min / 2)
        return _pad_rows(mask.repeat(groups, 1), padding)


class RaggedBatch(ABC):
    """A step whose spans attend all at once."""

    @abstractmethod
    def rows_by_rope_length(self) -> dict[int, list[int]]:
        """Rows of sessions with a rope_length, by it."""

    @abstractmethod
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
        """As `attend`."""


Spans = Sequence[SpanRows] | RaggedBatch
"""Where the rows of a step lie: span by span, or all together."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers asks a registered function to, within `attending`.

    query: [1, heads, rows, dim]; key and value: [1, kv_heads, rows, dim]. s_aux: attention sinks,
    [heads] (Xiao et al. 2023, as gpt-oss has them). softcap: bounds the scores, as Gemma 2's are.
    Appends each span's keys and values to its cache. Returns [1, rows, heads, dim]; rows of no
    span are zero. Raises NotImplementedError naming what else a model asks for; it does so in its
    first forward pass already.
    """
    _refuse_unknown({"attention_mask": attention_mask, **others})
    index: int = module.layer_idx  # type: ignore[assignment]
    spans = current_spans()
    out = attend(index, query[0], key[0], value[0], spans, scaling, sliding_window, s_aux, softcap)
    return out[None], None


def _refuse_unknown(others: dict[str, Any]) -> None:
    unknown = {name for name, value in others.items() if value is not None} - HARMLESS
    if others.get("is_causal") is False:
        unknown.add("is_causal")
    if unknown:
        names = ", ".join(sorted(unknown))
        raise NotImplementedError(f"its attention asks for {names}, which is not served")


def attend(
    index: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: Spans,
    scaling: float | None,
    window: int | None,
    sinks: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of layer `index`, [heads, rows, dim] to [rows, heads, dim].

    key and value: [kv_heads, rows, dim]; appended to each span's cache. sinks: [heads], what a
    key of no token, with a value of zero, scores. Rows of no span are zero.
    """
    heads, rows = query.shape[0], query.shape[1]
    note_call(index)
    if isinstance(spans, RaggedBatch):
        return spans.attend(index, query, key, value, scaling, window, sinks, softcap)
    out = query.new_zeros(rows, heads, value.shape[2])
    lead = int(sinks is not None)
    for span in spans:
        layer, padding = span.cache.layer(index, lead), span.cache.padding
        for part in span.in_turn:
            at = slice(part.start, part.stop)
            keys, values = layer.append(part.position, key[:, at], value[:, at])
            mask = part.mask(window, heads // key.shape[0], query, sinks)
            out[at] = _attend(query[:, at], keys, values, mask, scaling, padding, softcap)
        if span.branches:
            _put_back(span, layer, key, value)
    return out


def _put_back(span: SpanRows, layer: LayerCache, key: Tensor, value: Tensor) -> None:
    """Write the span's own rows over those of its branches, which the layer remembers."""
    own = slice(span.start, span.stop)
    layer.append(span.position, key[:, own], value[:, own])
    for branch in span.branches:
        at = slice(branch.start, branch.stop)
        layer.branches.append((branch.position, key[:, at], value[:, at]))


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    padding: Padding,
    softcap: float | None = None,
) -> Tensor:
    """[heads, rows, dim] over [kv_heads, length, dim] to [rows, heads, dim].

    The query heads of a group become rows of their KV head: one small batch instead of
    copies of the keys, with the same bits.
    """
    heads, rows, _ = query.shape
    folded = query.reshape(keys.shape[0], -1, query.shape[2])
    padded = _pad_rows(folded, padding)
    if softcap is not None:
        capped = _capped(padded, keys, values, mask, scaling, softcap, padding)
        return capped[:, : folded.shape[1]].reshape(heads, rows, -1).transpose(0, 1)
    most = _most_queries(folded, values, heads // keys.shape[0], padding)
    if mask is not None:
        mask = mask[None, None] if mask.dim() == 2 else mask[None]
    attended = [
        functional.scaled_dot_product_attention(
            padded[None, :, at : at + most],
            keys[None],
            values[None],
            attn_mask=None if mask is None else mask[..., at : at + most, :],
            scale=scaling,
        )[0]
        for at in range(0, padded.shape[1], most)
    ]
    whole = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
    return whole[:, : folded.shape[1]].reshape(heads, rows, -1).transpose(0, 1)


def _capped(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float,
    padding: Padding,
) -> Tensor:
    """[kv_heads, rows, dim], capped: in pieces of one size where rows are to have the same bits."""
    exact = padding.key_multiple > 1
    most = padding.query_multiple if exact else query.shape[1]
    block = padding.key_multiple if exact else keys.shape[1]
    pieces = [
        capped_attention(
            query[:, at : at + most],
            keys,
            values,
            None if mask is None else mask[at : at + most],
            scaling,
            softcap,
            block,
        )
        for at in range(0, query.shape[1], most)
    ]
    return torch.cat(pieces, dim=1)


def _most_queries(folded: Tensor, values: Tensor, groups: int, padding: Padding) -> int:
    """Query rows that attention may see at once."""
    if not padding.max_batched_tokens:
        return padding.queries(folded.shape[1])
    heads, _, width = folded.shape
    found = most_queries(
        (heads, width, values.shape[2]),
        folded.dtype,
        folded.device.type,
        groups * padding.max_batched_tokens,
        torch.get_num_threads(),
    )
    return found or padding.query_multiple


def _pad_rows(x: Tensor, padding: Padding) -> Tensor:
    """`x` with zero rows appended to its last but one dimension, as many as are wanted."""
    rows = x.shape[-2]
    wanted = padding.queries(rows)
    return x if wanted == rows else functional.pad(x, (0, 0, 0, wanted - rows))


def _no_mask(*_: Any, **__: Any) -> None:
    """Masks are made per span."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
