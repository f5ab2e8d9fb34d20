"""Linear layers: prepacked bf16, int8 and int4 where the machine can, wide or dense where not.

The operators are private to torch, which is pinned; each is looked up once, and where one is
missing the dense layer is used instead. int8 and int4 are for the weights of drafts only: their
results differ from the model's own. They slow down with rows, so more than a few rows go to the
bf16 layer beside them.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paceline.engine.torch.native.product import (
    CompactProduct,
    CompactProducts,
    can_widen,
    wide_product,
)

Linear = Callable[[Tensor], Tensor]
MakeLinear = Callable[[Tensor, Tensor | None], Linear]

FEW_ROWS = 4
"""Up to here int8 and int4 are faster than bf16."""
INT4_GROUP = 32
"""Inputs that share a scale and a zero in int4."""


def _lookup(space: Any, name: str) -> Any:
    """A private operator of torch, or None where this build has none."""
    return getattr(space, name, None)


_PACK = _lookup(torch.ops.mkldnn, "_reorder_linear_weight")
_APPLY = _lookup(torch.ops.mkldnn, "_linear_pointwise")
_INT8 = _lookup(torch.ops.aten, "_weight_int8pack_mm")
_INT4_PACK = _lookup(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu")
_INT4 = _lookup(torch.ops.aten, "_weight_int4pack_mm_for_cpu")


class DenseLinear:
    """As nn.Linear."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over weight, [out, in], and bias, [out]."""
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return functional.linear(x, self._weight, self._bias)


class PrepackedLinear:
    """As DenseLinear with a bf16 weight reordered once: a third less time.

    As oneDNN has it, or compact with the same bits. oneDNN needs at least 2 rows for them: one
    row alone takes another kernel.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, compact: CompactProducts | None = None
    ) -> None:
        """Take over weight and bias; the dense weight can go afterwards.

        compact: what keeps the weight in fewer bytes, where it can; None: as oneDNN has it.
        """
        onednn = functools.cache(lambda: _OneDNNProduct(weight, bias))  # only if it is needed
        self.compact = compact.product(weight, bias, onednn) if compact else None
        self._product: Linear = self.compact or onednn()

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return _by_rows(self._product, x)


class WideLinear:
    """As DenseLinear with a compact bf16 weight, where oneDNN takes no bf16. Any rows agree."""

    def __init__(self, product: CompactProduct) -> None:
        """By a product in float32."""
        self._product = product

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return _by_rows(self._product, x)


def _by_rows(product: Linear, x: Tensor) -> Tensor:
    y = product(x.flatten(0, -2))
    return y.view(*x.shape[:-1], y.shape[-1])


class _OneDNNProduct:
    """x w^T + bias of rows, by oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed, self._bias = _PACK(weight), bias

    def __call__(self, x: Tensor) -> Tensor:
        return _APPLY(x, self._packed, self._bias, "none", [], "")  # type: ignore[no-any-return]


class Int8Linear:
    """int8 weights, a scale for each output; few rows only."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize symmetrically."""
        scales = weight.float().abs().amax(1).clamp_(min=1e-8) / 127
        self._weight = torch.round(weight.float() / scales[:, None]).to(torch.int8)
        self._scales = scales.to(weight.dtype)
        self._bias = bias
        self._many = PrepackedLinear(weight, bias)
        self.quantized_bytes = self._weight.nbytes + self._scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] to [rows, out]."""
        if x.shape[0] > FEW_ROWS:
            return self._many(x)
        y: Tensor = _INT8(x.contiguous(), self._weight, self._scales)
        return y if self._bias is None else y.add_(self._bias)


class Int4Linear:
    """int4 weights, a scale and a zero for each group of inputs; few rows only."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize asymmetrically."""
        groups = weight.float().reshape(weight.shape[0], -1, INT4_GROUP)
        low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
        scales = ((high - low) / 15).clamp_(min=1e-8)
        codes = torch.round((groups - low) / scales).clamp_(0, 15).to(torch.int32)
        self._packed = _INT4_PACK(codes.reshape(weight.shape), 1)
        # The operator takes code 8 for the zero itself.
        zeros = low + 8 * scales
        pairs = torch.stack((scales[..., 0], zeros[..., 0]), dim=-1)
        self._scales_and_zeros = pairs.transpose(0, 1).contiguous().to(weight.dtype)
        self._bias = bias
        self._many = PrepackedLinear(weight, bias)
        self.quantized_bytes = self._packed.nbytes + self._scales_and_zeros.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] to [rows, out]."""
        if x.shape[0] > FEW_ROWS:
            return self._many(x)
        y: Tensor = _INT4(x.contiguous(), self._packed, INT4_GROUP, self._scales_and_zeros)
        return y if self._bias is None else y.add_(self._bias)


def make_linear(weights: str) -> MakeLinear:
    """What makes layers with "bf16", "int8" or "int4" weights, where the operators exist."""
    wanted: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "bf16": (functools.partial(PrepackedLinear, compact=CompactProducts()), ()),
        "int8": (Int8Linear, (_INT8,)),
        "int4": (Int4Linear, (_INT4_PACK, _INT4)),
    }
    kind, operators = wanted[weights]
    has_all = all(operator is not None for operator in operators)

    def make(weight: Tensor, bias: Tensor | None) -> Linear:
        if not can_prepack(weight):
            wide = wide_product(weight, bias)
            return WideLinear(wide) if wide else DenseLinear(weight, bias)
        divides = weight.shape[1] % INT4_GROUP == 0 and weight.shape[0] % INT4_GROUP == 0
        if has_all and (kind is not Int4Linear or divides):
            return kind(weight, bias)  # type: ignore[no-any-return]
        return PrepackedLinear(weight, bias)

    return make


class CountedLinears:
    """Makes layers, and counts the bytes of their weights' copies in 8 or 4 bits."""

    def __init__(self, make: MakeLinear) -> None:
        """By `make`."""
        self._make = make
        self.quantized_bytes = 0

    def __call__(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """A layer."""
        made = self._make(weight, bias)
        self.quantized_bytes += getattr(made, "quantized_bytes", 0)
        return made


def can_prepack(weight: Tensor) -> bool:
    """Whether PrepackedLinear takes this weight: bf16, on the CPU, operators at hand."""
    return (
        _PACK is not None
        and _APPLY is not None
        and weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and _packs()
    )


@functools.cache
def _packs() -> bool:
    """Whether the operator takes bf16 with the instruction set that oneDNN has or is held to."""
    try:
        _PACK(torch.zeros(2, 2, dtype=torch.bfloat16))
    except RuntimeError:
        return False
    return True


class SwappedLinear(nn.Module):
    """One of our layers, instead of an nn.Linear."""

    def __init__(self, linear: nn.Linear, make: MakeLinear) -> None:
        """Take over weight and bias."""
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach()
        self._apply_to = make(linear.weight.detach(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        rows: Tensor = self._apply_to(x.flatten(0, -2))
        return rows.view(*x.shape[:-1], -1)


def swap_linears(model: nn.Module, make: MakeLinear) -> None:
    """Swap each nn.Linear of `model` that gains; what derives from it does more."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and _gains(child.weight):
                setattr(module, name, SwappedLinear(child, make))


def _gains(weight: Tensor) -> bool:
    return can_prepack(weight) or can_widen(weight)
