"""A layer's product with a compact weight: with the bits of oneDNN's, or where it has none."""

import ctypes
import functools
import math
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor

from paceline.engine.compiling import CompiledForm
from paceline.engine.torch.native.library import LIKE_ONEDNN, WIDE, library
from paceline.engine.torch.native.weight import CompactWeight, WeightLayout, fits, packed
from paceline.engine.torch.row_pieces import COMPARED, fixed_rows
from paceline.errors import FailedPrecondition

MOST_ROWS = 240
"""In one call of the C, which has it too."""
COMPARED_ROWS = 32
"""At least; more than the C multiplies in one group."""
CHUNKS = (1024, 512, 256)
"""Inputs that oneDNN sums from zero; which, depends on the shape."""
WIDE_CHUNK = 256
"""Inputs that wide_product.c sums from zero: the most that it takes."""
MOST_BYTES = 0.9
"""Of those in bf16. Beyond, the weight is not like a trained one, and little would be gained."""

_INPUTS = {LIKE_ONEDNN: torch.bfloat16, WIDE: torch.float32}

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class CompactProduct:
    """x w^T + bias of x [rows, in], to [rows, out]. Any number of rows gives a row the same bits.

    inputs: the type in which the library packs x. bias: [out] in bf16, or None.
    """

    library: CDLL
    inputs: torch.dtype
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
        space = x.new_empty(x.shape, dtype=self.inputs)
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
        if not (_can(LIKE_ONEDNN, weight) and _plain(bias)):
            return None
        make = functools.partial(_made, LIKE_ONEDNN, weight, bias)
        key = (weight.shape, bias is not None)
        if key in self._chunks:
            chunk = self._chunks[key]
            product = None if chunk is None else make(chunk)
        else:
            product = _found(make, weight, make_expected())
            self._chunks[key] = None if product is None else product.chunk
        return product if product and _is_small(product, weight) else None


def can_widen(weight: Tensor) -> bool:
    """Whether wide_product may take a weight: bf16 on a CPU, of sizes that fit."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _can(WIDE, weight)


def wide_product(weight: Tensor, bias: Tensor | None) -> CompactProduct | None:
    """That of a layer, in an order of sums of its own; None where it cannot be, or is no gain."""
    if not (can_widen(weight) and _plain(bias)):
        return None
    product = _made(WIDE, weight, bias, min(WIDE_CHUNK, weight.shape[1]))
    return product if _is_small(product, weight) else None


def _can(form: CompiledForm, weight: Tensor) -> bool:
    return fits(weight) and library(form) is not None


def _plain(bias: Tensor | None) -> bool:
    return bias is None or (bias.dtype == torch.bfloat16 and bias.is_contiguous())


def _made(form: CompiledForm, weight: Tensor, bias: Tensor | None, chunk: int) -> CompactProduct:
    found = _loaded(form)
    return CompactProduct(found, _INPUTS[form], packed(found, weight, chunk), bias)


@functools.cache
def _loaded(form: CompiledForm) -> CDLL:
    found = library(form)
    if found is None:
        raise FailedPrecondition(f"{form.source} does not run here")
    weight, pointer = ctypes.POINTER(WeightLayout), ctypes.c_void_p
    found.product.argtypes = [weight, *[pointer] * 4, ctypes.c_ssize_t, ctypes.c_int]
    found.find_tables.argtypes = [pointer, weight, pointer, ctypes.c_int]
    found.pack.argtypes = [pointer, weight, ctypes.c_int]
    found.find_tables.restype = found.pack.restype = None
    return found


def _is_small(product: CompactProduct, weight: Tensor) -> bool:
    return product.weight.nbytes <= MOST_BYTES * weight.nbytes


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
