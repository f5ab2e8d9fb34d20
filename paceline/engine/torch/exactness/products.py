"""What may compute a product with weights: the library of the device, or our own kernel there.

A GPU's library picks a kernel, and how it blocks its sums, by the number of rows. Our kernel never
does. It may be slower, so it is used where the library's rows depend on their batch.
"""

from collections.abc import Callable

from torch import Tensor

from paceline.engine.torch.kernels import has_kernels
from paceline.engine.torch.row_pieces import Operator

Candidates = dict[str, Operator]
"""By name, the one to use wherever it can be first."""
FindCandidates = Callable[[str, Operator, Tensor, Tensor | None], Candidates]
"""Of a name and an operator of the library, its weight [out, in] and bias [out]."""


def measured(name: str, library: Operator, weight: Tensor, bias: Tensor | None) -> Candidates:
    """The library's, then ours."""
    return {name: library, **tiled(name, library, weight, bias)}


def of_library(name: str, library: Operator, *_: Tensor | None) -> Candidates:
    """The library's alone."""
    return {name: library}


def tiled(name: str, library: Operator, weight: Tensor, bias: Tensor | None) -> Candidates:
    """Ours; the library's where the device has none of ours."""
    if not has_kernels(weight.device.type, weight.dtype):
        return {name: library}
    from paceline.engine.torch.tiled import tiled_linears  # needs Triton

    return {**tiled_linears(weight, bias)}


PRODUCTS: dict[str, FindCandidates] = {
    "measured": measured,
    "library": of_library,
    "tiled": tiled,
}
"""By what the setting calls them."""
