"""A prepacked layer's product with few rows, used where it has the bits of oneDNN's."""

import math
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paceline.engine.torch.few_rows.library import library
from paceline.engine.torch.row_pieces import COMPARED, fixed_rows

MOST_ROWS = 24
"""More rows are arithmetic more than memory: oneDNN is as fast. product.c has it too."""
WIDTH = 64
"""Outputs that lie together."""
CHUNKS = (1024, 512, 256)
"""Inputs that oneDNN sums from zero; which, depends on the shape."""


@dataclass(frozen=True, slots=True)
class FewRowsProduct:
    """x w^T + bias of x [rows, in] of at most MOST_ROWS rows, to [rows, out].

    address: of the reordered weight, which its layer keeps. chunk: inputs that are summed from
    zero.
    """

    library: CDLL
    address: int
    shape: torch.Size
    bias: Tensor | None
    chunk: int

    def __call__(self, x: Tensor) -> Tensor:
        """The product. Raises ValueError for more rows."""
        x = x.contiguous()
        rows, (outputs, inputs) = x.shape[0], self.shape
        y, packed = x.new_empty(rows, outputs), torch.empty_like(x)
        bias = 0 if self.bias is None else self.bias.data_ptr()
        sizes = (rows, outputs, inputs, self.chunk, torch.get_num_threads())
        at = (self.address, x.data_ptr(), bias, y.data_ptr(), packed.data_ptr())
        if self.library.product(*at, *sizes):
            raise ValueError(f"rows is {rows}, and may be up to {MOST_ROWS}; sizes are {sizes}")
        return y


class FewRows:
    """Makes such products for a model's layers; in which order a shape is summed is found once."""

    def __init__(self) -> None:
        """With what is compiled here, if it can be."""
        self._chunks: dict[tuple[torch.Size, bool], int | None] = {}

    def product(
        self, packed: Tensor, weight: Tensor, bias: Tensor | None, many: Callable[[Tensor], Tensor]
    ) -> FewRowsProduct | None:
        """That of a layer whose rows `many` computes; None where this has other bits.

        packed: the weight [out, in] as reordered for oneDNN.
        """
        found = library()
        if found is None or not _fits(packed, weight, bias):
            return None
        address = torch.ops.mkldnn.data_ptr(packed)

        def make(chunk: int) -> FewRowsProduct:
            return FewRowsProduct(found, address, weight.shape, bias, chunk)

        key = (weight.shape, bias is not None)
        if key not in self._chunks:
            self._chunks[key] = _chunk(make, weight, many)
        chunk = self._chunks[key]
        return None if chunk is None else make(chunk)


def _fits(packed: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    outputs, inputs = weight.shape
    whole = outputs % WIDTH == 0 and inputs % 2 == 0 and outputs > 0
    plain = bias is None or (bias.dtype == torch.bfloat16 and bias.is_contiguous())
    same: Any = torch.ops.mkldnn._nbytes(packed)
    return whole and plain and same == weight.nbytes


def _chunk(
    make: Callable[[int], FewRowsProduct], weight: Tensor, many: Callable[[Tensor], Tensor]
) -> int | None:
    """In which chunks the layer sums; None where it does so in none of CHUNKS."""
    outputs, inputs = weight.shape
    rows = fixed_rows(weight, max(MOST_ROWS, math.ceil(COMPARED / outputs)))
    expected = many(rows)
    for chunk in sorted({min(chunk, inputs) for chunk in (*CHUNKS, inputs)}):
        product = make(chunk)
        if torch.equal(torch.cat([product(part) for part in rows.split(MOST_ROWS)]), expected):
            return chunk
    return None
