"""A layer's product with a compact weight, used where it has the bits of oneDNN's."""

import ctypes
import math
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor

from paceline.engine.torch.compact.library import library
from paceline.engine.torch.compact.weight import CompactWeight, fits, packed
from paceline.engine.torch.row_pieces import COMPARED, fixed_rows

MOST_ROWS = 240
"""In one call of product.c, which has it too."""
COMPARED_ROWS = 32
"""At least; more than product.c multiplies in one group."""
CHUNKS = (1024, 512, 256)
"""Inputs that oneDNN sums from zero; which, depends on the shape."""
MOST_BYTES = 0.9
"""Of those in bf16. Beyond, the weight is not like a trained one, and little would be gained."""

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class CompactProduct:
    """x w^T + bias of x [rows, in], to [rows, out]. Any number of rows gives a row the same bits.

    bias: [out] in bf16, or None.
    """

    library: CDLL
    weight: CompactWeight
    bias: Tensor | None

    @property
    def chunk(self) -> int:
        """Inputs that are summed from zero."""
        return int(self.weight.layout.chunk)

    def __call__(self, x: Tensor) -> Tensor:
        """The product."""
        layout = self.weight.layout
        y = x.new_empty(x.shape[0], layout.outputs)
        for given, piece in zip(y.split(MOST_ROWS), x.contiguous().split(MOST_ROWS), strict=True):
            self._multiply(piece, given)
        return y

    def _multiply(self, x: Tensor, y: Tensor) -> None:
        space = torch.empty_like(x)
        bias = 0 if self.bias is None else self.bias.data_ptr()
        addresses = (x.data_ptr(), bias, y.data_ptr(), space.data_ptr())
        layout, threads = ctypes.byref(self.weight.layout), torch.get_num_threads()
        if x.shape[0] and self.library.product(layout, *addresses, x.shape[0], threads):
            raise ValueError(f"x is {tuple(x.shape)}, and rows may be up to {MOST_ROWS}")


class CompactProducts:
    """Makes such products for a model's layers; in which order a shape is summed is found once."""

    def __init__(self) -> None:
        """With what is compiled here, if it can be."""
        self._chunks: dict[tuple[torch.Size, bool], int | None] = {}

    def product(
        self, weight: Tensor, bias: Tensor | None, make_expected: Callable[[], Product]
    ) -> CompactProduct | None:
        """That of a layer; None where it has other bits than what `make_expected` makes."""
        found = library()
        if found is None or not fits(weight) or not _plain(bias):
            return None

        def make(chunk: int) -> CompactProduct:
            return CompactProduct(found, packed(found, weight, chunk), bias)

        key = (weight.shape, bias is not None)
        if key in self._chunks:
            chunk = self._chunks[key]
            product = None if chunk is None else make(chunk)
        else:
            product = _found(make, weight, make_expected())
            self._chunks[key] = None if product is None else product.chunk
        return product if product and product.weight.nbytes <= MOST_BYTES * weight.nbytes else None


def _plain(bias: Tensor | None) -> bool:
    return bias is None or (bias.dtype == torch.bfloat16 and bias.is_contiguous())


def _found(
    make: Callable[[int], CompactProduct], weight: Tensor, expected: Product
) -> CompactProduct | None:
    """The product in the chunks in which the layer sums; None where none of CHUNKS is right."""
    outputs, inputs = weight.shape
    rows = fixed_rows(weight, max(COMPARED_ROWS, math.ceil(COMPARED / outputs)))
    wanted = expected(rows)
    for chunk in dict.fromkeys(min(chunk, inputs) for chunk in (*CHUNKS, inputs)):
        product = make(chunk)
        if torch.equal(product(rows), wanted):
            return product
    return None
