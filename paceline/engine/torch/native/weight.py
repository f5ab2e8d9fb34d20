"""A layer's weight in bf16, kept in 12 bits a number without loss. layout.h says how."""

import ctypes
from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH = 64
"""Outputs that lie together, as in layout.h."""
CODES = 16
MOST_CHUNK = 2 * (2**16 - 1)
"""A pair's place in it takes 16 bits."""
PAIR_BYTES = 3 * WIDTH
"""Of two inputs for as many outputs: three quarters of what they are in bf16."""


class WeightLayout(ctypes.Structure):
    """A weight as layout.h has it: addresses, and sizes."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bytes", "tables", "starts", "rare", "whole")),
        *((name, ctypes.c_ssize_t) for name in ("outputs", "inputs", "chunk")),
    )


@dataclass(frozen=True, slots=True)
class CompactWeight:
    """The layout, and the tensors that it points into."""

    layout: WeightLayout
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(tensor.nbytes for tensor in self.tensors)


def fits(weight: Tensor) -> bool:
    """Whether a weight [out, in] has sizes that can be packed."""
    outputs, inputs = weight.shape
    return outputs > 0 and inputs > 0 and outputs % WIDTH == 0 and inputs % 2 == 0


def packed(library: CDLL, weight: Tensor, chunk: int) -> CompactWeight:
    """A bf16 weight [out, in], for products that sum `chunk` inputs from zero.

    The weight must fit. Raises ValueError for a chunk that is odd, or larger than MOST_CHUNK.
    """
    dense, (outputs, inputs) = weight.contiguous(), weight.shape
    if chunk < 2 or chunk % 2 or chunk > MOST_CHUNK:
        raise ValueError(f"chunk is {chunk}, and may be even, from 2 to {MOST_CHUNK}")
    parts = outputs // WIDTH * -(-inputs // chunk)
    starts, rare = torch.zeros(2, parts, dtype=torch.int64)
    tables = torch.empty(parts, CODES, dtype=torch.uint8)
    threads = torch.get_num_threads()
    layout = WeightLayout(0, tables.data_ptr(), starts.data_ptr(), 0, 0, outputs, inputs, chunk)
    library.find_tables(dense.data_ptr(), ctypes.byref(layout), rare.data_ptr(), threads)
    torch.sub(rare.cumsum(0), rare, out=starts)
    count = int(rare.sum())
    whole = torch.empty(count, 2 * WIDTH, dtype=torch.bfloat16)
    indices = torch.empty(count + parts, dtype=torch.int16)
    data = torch.empty(outputs // WIDTH * inputs // 2, PAIR_BYTES, dtype=torch.uint8)
    layout.bytes, layout.rare, layout.whole = (one.data_ptr() for one in (data, indices, whole))
    library.pack(dense.data_ptr(), ctypes.byref(layout), threads)
    return CompactWeight(layout, (data, tables, starts, indices, whole))
