"""Attention of a ragged batch: each span over its own cache, row for row the same bits.

The bits of scaled_dot_product_attention depend on the length of KV and on small or uneven
query counts. Over KV padded to whole pages, with query rows padded to a multiple of
QUERY_MULTIPLE, a row has the same bits alone, in a verify block and in a prefill.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from paceline.engine.kv import SessionCache, padded

NAME = "paceline"
"""What transformers calls this attention."""
QUERY_MULTIPLE = 8


@dataclass(eq=False, slots=True)
class SpanRows:
    """A span in the flat batch: rows start to stop, at `position` in its session."""

    cache: SessionCache
    position: int
    start: int
    stop: int
    masks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, groups: int, like: Tensor) -> Tensor:
        """Additive mask, [groups * rows, padded length]: causal, and within a sliding window.

        Finite: a block that is masked as a whole must give weights that the next block
        rescales to 0, not NaN. Made once for all layers of a kind.
        """
        key = (window, groups)
        if key not in self.masks:
            end = self.position + self.stop - self.start
            queries = torch.arange(self.position, end, device=like.device)[:, None]
            keys = torch.arange(padded(end), device=like.device)[None]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
            mask.masked_fill_(hidden, torch.finfo(like.dtype).min / 2)
            self.masks[key] = _pad_rows(mask.repeat(groups, 1))
        return self.masks[key]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    *,
    spans: Sequence[SpanRows],
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers asks a registered function to.

    query: [1, heads, rows, dim]; key and value: [1, kv_heads, rows, dim]. Appends each
    span's keys and values to its cache. Returns [1, rows, heads, dim]; rows of no span are zero.
    """
    heads, rows = query.shape[1], query.shape[2]
    out = query.new_zeros(1, rows, heads, value.shape[3])
    for span in spans:
        at = slice(span.start, span.stop)
        layer = span.cache.layer(module.layer_idx)  # type: ignore[arg-type]
        keys, values = layer.append(span.position, key[0, :, at], value[0, :, at])
        mask = span.mask(sliding_window, heads // key.shape[1], query)
        out[0, at] = _attend(query[0, :, at], keys, values, mask, scaling)
    return out, None


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None
) -> Tensor:
    """[heads, rows, dim] over [kv_heads, length, dim] to [rows, heads, dim].

    The query heads of a group become rows of their KV head: one small batch instead of
    copies of the keys, and the same bits.
    """
    heads, rows, dim = query.shape
    folded = query.reshape(keys.shape[0], -1, dim)
    attended = functional.scaled_dot_product_attention(
        _pad_rows(folded)[None],
        keys[None],
        values[None],
        attn_mask=mask[None, None],
        scale=scaling,
    )
    return attended[0, :, : folded.shape[1]].reshape(heads, rows, -1).transpose(0, 1)


def _pad_rows(x: Tensor) -> Tensor:
    """`x` with zero rows appended to its last but one dimension, to a QUERY_MULTIPLE of them."""
    return functional.pad(x, (0, 0, 0, -x.shape[-2] % QUERY_MULTIPLE))


def _no_mask(*_: Any, **__: Any) -> None:
    """Masks are made per span."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
