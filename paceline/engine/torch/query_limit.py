"""How many query rows attention may see at once, so that all have the same bits, found by trying.

The kernel blocks its queries by their number, and with AMX multiplies differently from 64 on.
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from paceline.engine.torch.padding import Padding, batch_invariant

COUNTS = (8, 16, 24, 32, 40, 48, 56, 64, 96, 128, 184, 192, 256, 512, 760, 768, 1024, 2048, 4096)
"""Counts to try: where known kernels change, and between."""


@functools.cache
def most_queries(
    shape: tuple[int, int, int], dtype: torch.dtype, device: str, limit: int, threads: int
) -> int:
    """The most query rows, up to `limit`, that agree with those of the smallest count.

    shape: KV heads, width of keys and of values. threads: those of torch, a key of the
    cache. 0 where rows differ even between the smallest counts.
    """
    padding = batch_invariant(dtype)
    most = limit
    for length in (padding.key_multiple, 2 * padding.key_multiple):
        trial = _Trial(shape, dtype, device, padding, length, limit)
        most = min(most, trial.most())
    return most


class _Trial:
    """Fixed queries over fixed keys, causal from the middle on."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        device: str,
        padding: Padding,
        length: int,
        limit: int,
    ) -> None:
        heads, width, value_width = shape
        generator = torch.Generator().manual_seed(0)

        def random(*sizes: int) -> Tensor:
            return torch.randn(1, heads, *sizes, generator=generator).to(device, dtype)

        self._least = padding.queries(1)
        self._limit = padding.queries(limit)
        rows = self._limit + self._least
        self._queries = random(rows, width)
        self._keys, self._values = random(length, width), random(length, value_width)
        first = torch.arange(rows, device=device)[:, None] * length // (2 * rows) + length // 2
        hidden = torch.arange(length, device=device)[None] > first
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
        self._mask = mask.masked_fill_(hidden, torch.finfo(dtype).min / 2)

    def most(self) -> int:
        """The last count before one that differs."""
        expected = torch.cat(
            [self._attend(at, self._least) for at in range(0, self._queries.shape[2], self._least)],
            dim=2,
        )
        most = 0
        for count in self._counts():
            at = min(self._least, count) // 2
            if not torch.equal(self._attend(at, count), expected[:, :, at : at + count]):
                break
            most = count
        return most

    def _counts(self) -> Iterator[int]:
        yield from (count for count in COUNTS if count < self._limit)
        yield self._limit

    def _attend(self, at: int, count: int) -> Tensor:
        rows = slice(at, at + count)
        return functional.scaled_dot_product_attention(
            self._queries[:, :, rows],
            self._keys,
            self._values,
            attn_mask=self._mask[None, None, rows],
        )
