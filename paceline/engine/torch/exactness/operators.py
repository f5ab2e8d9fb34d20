"""Batch-invariant operators: a row has the same bits whatever else is in the batch.

Two kinds need care. Products with weights run in pieces of rows (torch.row_pieces). Elementwise
functions such as exp use one code path for whole vectors and another for the remainder. Where the
remainder lies depends on the tensor's size, its layout and the threads. Where that changes bits,
the function runs row by row.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from paceline.engine.torch.attention import Spans
from paceline.engine.torch.exactness.products import PRODUCTS, Candidates
from paceline.engine.torch.linear import Linear, MakeLinear
from paceline.engine.torch.row_pieces import (
    ENOUGH,
    Operator,
    RowPieces,
    find_pieces,
    fixed_rows,
    in_pieces,
    tried_rows,
)
from paceline.engine.torch.runner import ForwardPass

Function = Callable[[Tensor], Tensor]
Choice = tuple[str, RowPieces | None]
"""The name of a candidate, and its pieces."""

_FOUND: dict[tuple[Any, ...], RowPieces | None] = {}
_SAME: dict[tuple[Any, ...], bool] = {}
"""What was found in this process; it depends on the keys alone."""
_SAMPLES = 2**16


class BatchInvariantOperators:
    """The operators of one model, run as this machine was found to make them batch-invariant."""

    def __init__(self, max_batched_tokens: int, products: str = "measured") -> None:
        """max_batched_tokens: the most rows of a step. products: one of PRODUCTS."""
        self._max_batched_tokens = max_batched_tokens
        self._candidates = PRODUCTS[products]
        self._choices: dict[tuple[Any, ...], Choice] = {}
        self._found: dict[str, RowPieces | None] = {}
        self._bits: dict[str, str] = {}
        self._by_threads = False

    @property
    def numerics(self) -> str:
        """What decides the bits of all operators, and some of these bits: for the fingerprint.

        Names the number of threads where another number gives other bits.
        """
        threads = f"threads {torch.get_num_threads()}" if self._by_threads else ""
        layout = (
            f"{name} {pieces and pieces.layout(self._max_batched_tokens)} {self._bits[name]}"
            for name, pieces in self._found.items()
        )
        return "\n".join((threads, *sorted(layout)))

    @property
    def varying(self) -> tuple[str, ...]:
        """Operators for which no counts of rows agree."""
        return tuple(sorted(name for name, pieces in self._found.items() if pieces is None))

    @property
    def unpadded(self) -> int:
        """Up to how many rows, from one on, no operator found so far needs more of them."""
        found = self._found.values()
        return min((pieces.unpadded if pieces else 0 for pieces in found), default=0)

    def invariant_linears(self, make: MakeLinear) -> MakeLinear:
        """Layers as `make` makes them, in pieces."""

        def made(weight: Tensor, bias: Tensor | None) -> Linear:
            layer = make(weight, bias)
            outputs, inputs = weight.shape
            like = weight.new_empty(1, inputs)
            candidates = self._candidates(type(layer).__name__, layer, weight, bias)
            chosen, pieces = self._chosen(candidates, like, outputs, bias is not None)
            return chosen if pieces is None else _PieceLinear(chosen, pieces)

        return made

    def product(
        self, name: str, operator: Operator, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """`operator` of [..., in], which multiplies with `weight`, [out, in], in pieces."""
        return self.by_rows(self._candidates(name, operator, weight, bias), x, weight.shape[0])

    def by_rows(self, candidates: Candidates, x: Tensor, outputs: int) -> Tensor:
        """One of `candidates` of [..., in], to [..., outputs], in pieces."""
        rows = x.flatten(0, -2) if x.dim() > 1 else x[None]
        operator, pieces = self._chosen(candidates, rows, outputs)
        given = operator(rows) if pieces is None else in_pieces(operator, rows, pieces)
        return given.view(*x.shape[:-1], outputs)

    def invariant_forward(self, forward: ForwardPass) -> ForwardPass:
        """`forward` with all the functions of torch that it calls made batch-invariant."""
        mode = _BatchInvariantFunctions(self)

        def run(tokens: Tensor, positions: Tensor, spans: Spans, wanted: Tensor) -> Tensor:
            with mode:
                return forward(tokens, positions, spans, wanted)

        return run

    def _chosen(
        self, candidates: Candidates, like: Tensor, outputs: int, *kind: Any
    ) -> tuple[Operator, RowPieces | None]:
        """The candidate to use, and its pieces; None where no counts of rows agree."""
        shape = (like.shape[-1], outputs, like.dtype, like.device.type, *kind)
        key = (*candidates, *shape)
        if key not in self._choices:
            self._choices[key] = self._choose(candidates, like, shape)
        name, pieces = self._choices[key]
        return candidates[name], pieces

    def _choose(self, candidates: Candidates, like: Tensor, shape: tuple[Any, ...]) -> Choice:
        """The first whose rows agree in all counts tried, else the one whose pieces cost least."""
        tried = tried_rows(like, shape[1], self._max_batched_tokens)
        found: dict[str, RowPieces | None] = {}
        for name, operator in candidates.items():
            found[name] = pieces = self._found_pieces(name, operator, like, shape)
            if pieces and pieces.largest >= tried:
                break
        name, pieces = min(found.items(), key=lambda one: one[1].cost if one[1] else math.inf)
        self._note_bits(" ".join(map(str, (name, *shape))), candidates[name], pieces, like)
        return name, pieces

    def _found_pieces(
        self, name: str, operator: Operator, like: Tensor, shape: tuple[Any, ...]
    ) -> RowPieces | None:
        key = (name, *shape, torch.get_num_threads(), self._max_batched_tokens)
        if key not in _FOUND:
            _FOUND[key] = find_pieces(operator, like, shape[1], self._max_batched_tokens)
        return _FOUND[key]

    def _note_bits(
        self, called: str, operator: Operator, pieces: RowPieces | None, like: Tensor
    ) -> None:
        """Note the bits of the first such operator, and whether a single thread gives the same."""
        self._found[called] = pieces
        rows = fixed_rows(like, pieces.up(min(ENOUGH, pieces.largest)) if pieces else ENOUGH)
        bits = operator(rows)
        self._bits[called] = _hash(bits)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._by_threads |= not torch.equal(operator(rows), bits)
        torch.set_num_threads(threads)


class _PieceLinear:
    """A layer that runs in pieces."""

    def __init__(self, linear: Linear, pieces: RowPieces) -> None:
        self._linear, self._pieces = linear, pieces

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] to [rows, out]."""
        return in_pieces(self._linear, x, self._pieces)


def _hash(x: Tensor) -> str:
    data = x.contiguous().view(torch.uint8).cpu().numpy().data
    return hashlib.sha256(data).hexdigest()


def elementwise(function: Function, like: Tensor) -> Function:
    """`function` of [..., width], such that a row has the same bits at every index.

    like: of its dtype and device.
    """
    if same_everywhere(function, like):
        return function
    return lambda x: by_rows(function, x)


def by_rows(function: Function, x: Tensor) -> Tensor:
    """`function` of each row of [..., width] by itself: always one contiguous vector."""
    rows = x.reshape(-1, x.shape[-1] if x.dim() > 1 else 1).contiguous()
    given = [function(row) for row in rows]
    return torch.stack(given).view(x.shape) if given else function(x)


def same_everywhere(function: Function, like: Tensor, key: Any = None) -> bool:
    """Whether an elementwise function gives a number the same bits at every index.

    Tried on all finite numbers of 16 bits, or on many of wider types: in one vector, in vectors
    with a remainder, strided, and alone.
    """
    known = (key or function, like.dtype, like.device.type, torch.get_num_threads())
    if known not in _SAME:
        _SAME[known] = _same_everywhere(function, _samples(like.dtype).to(like.device))
    return _SAME[known]


def _same_everywhere(function: Function, x: Tensor) -> bool:
    whole = function(x)
    strided = function(torch.stack((x, x), dim=1)[:, 0])
    left_over = torch.cat([function(part) for part in x.split(127)])
    alone = torch.cat([function(one) for one in x[:4096].split(1)])
    bits = [_bits(one) for one in (whole, strided, left_over, alone)]
    return all(torch.equal(one, bits[0][: one.shape[0]]) for one in bits[1:])


def _bits(x: Tensor) -> Tensor:
    """`x` with one NaN for all."""
    return torch.where(x.isnan(), 0.0, x)


def _samples(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if dtype.itemsize == 2:
        shuffled = torch.randperm(_SAMPLES, generator=generator).to(torch.int16).view(dtype)
        return shuffled[shuffled.isfinite()]
    return torch.randn(_SAMPLES, generator=generator, dtype=dtype) * 4


_ELEMENTWISE = {
    *(functional.silu, functional.gelu, functional.softplus, functional.mish, functional.elu),
    *(functional.selu, functional.celu, functional.logsigmoid, functional.hardswish),
    *(functional.sigmoid, functional.tanh, torch.selu, torch.celu),
    *(torch.sigmoid, torch.tanh, torch.exp, torch.expm1, torch.erf, torch.rsqrt),
    *(torch.log, torch.log1p, torch.pow, torch.cos, torch.sin),
    *(Tensor.sigmoid, Tensor.tanh, Tensor.exp, Tensor.expm1, Tensor.erf, Tensor.rsqrt),
    *(Tensor.log, Tensor.log1p, Tensor.pow, Tensor.__pow__, Tensor.cos, Tensor.sin),
}
"""Functions of one tensor, and numbers, that use other code for vectors than for single values."""
_LINEAR = functional.linear
_REDUCTIONS = {torch.mean, torch.sum, Tensor.mean, Tensor.sum}
REDUCES_BY_NUMBER = {"cuda"}
"""Devices that choose how they reduce a row by the number of rows."""
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}


class _BatchInvariantFunctions(TorchFunctionMode):
    """Makes the functions that modules of transformers call batch-invariant."""

    def __init__(self, operators: BatchInvariantOperators) -> None:
        super().__init__()
        self._operators = operators

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute func; torch does not call this again for what func calls itself."""
        kwargs = kwargs or {}
        if func is _LINEAR and not kwargs.keys() - {"weight", "bias"}:
            return self._linear(*args, **kwargs)
        if func in _PRODUCTS and _multiplies_rows(*args):
            return self._product(args[0], args[1])
        if func is torch.addmm and not kwargs:
            bias, x, weight = args
            return self._product(x, weight, bias)
        if func in _REDUCTIONS and _reduces_rows(*args, **kwargs):
            keepdim = kwargs.get("keepdim", len(args) > 2 and args[2])
            return self._reduction(func, args[0], keepdim=keepdim)
        if func in _ELEMENTWISE and _is_elementwise(args, kwargs):
            return _elementwise(func, args, kwargs)
        return func(*args, **kwargs)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        def operator(rows: Tensor) -> Tensor:
            return functional.linear(rows, weight, bias)

        return self._operators.product(f"linear {bias is not None}", operator, x, weight, bias)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        def operator(rows: Tensor) -> Tensor:
            return rows @ weight if bias is None else torch.addmm(bias, rows, weight)

        name = f"product {bias is not None} {weight.stride()}"
        return self._operators.product(name, operator, x, weight.t(), bias)

    def _reduction(self, func: Any, x: Tensor, *, keepdim: bool) -> Tensor:
        def operator(rows: Tensor) -> Tensor:
            return func(rows, -1, keepdim=True)  # type: ignore[no-any-return]

        given = self._operators.by_rows({func.__name__: operator}, x, 1)
        return given if keepdim else given.squeeze(-1)


def _reduces_rows(x: Any = None, dim: Any = None, keepdim: bool = False, **others: Any) -> bool:
    """Whether this reduces each row, [..., width], on a device whose kernels look at their number.

    Those of CUDA do: ReduceConfig of ATen/native/cuda/Reduce.cuh.
    """
    if dim not in (-1, (-1,), [-1]) or others or not x.dtype.is_floating_point:
        return False
    return x.dim() > 1 and x.device.type in REDUCES_BY_NUMBER


def _multiplies_rows(x: Any, weight: Any, *rest: Any) -> bool:
    """Whether this is rows times a weight, [..., in] @ [in, out]."""
    return not rest and x.dim() >= 2 and weight.dim() == 2 and x.dtype.is_floating_point


def _is_elementwise(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this is a function of one tensor of floating point, written to a new one."""
    x, *rest = args or (None,)
    others = (*rest, *kwargs.values())
    return (
        isinstance(x, Tensor)
        and x.dtype.is_floating_point
        and x.numel() > 0
        and not any(isinstance(one, Tensor) for one in others)
        and kwargs.get("inplace") is not True
    )


def _elementwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x, *rest = args

    def function(part: Tensor) -> Tensor:
        return func(part, *rest, **kwargs)  # type: ignore[no-any-return]

    key = (func, repr(rest), repr(sorted(kwargs.items())))
    return function(x) if same_everywhere(function, x, key) else by_rows(function, x)
