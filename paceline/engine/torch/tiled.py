"""Linear layers and RMSNorm on a GPU whose rows do not depend on the rows beside them.

Without a GPU the kernels run in Triton's interpreter, TRITON_INTERPRET=1, for tests.
"""

from dataclasses import dataclass

import triton
from torch import Tensor

from paceline.engine.torch.kernels.linear import multiply_tile
from paceline.engine.torch.kernels.norm import normalize


@dataclass(frozen=True, slots=True)
class Tile:
    """What a program computes: so many rows and outputs, so many bytes of an input at a time."""

    rows: int
    outputs: int
    input_bytes: int
    warps: int = 4
    stages: int = 4

    def __str__(self) -> str:
        return f"{self.rows}x{self.outputs}x{self.input_bytes}"


FEW = Tile(16, 32, 512)
"""For a step that decodes: it is bound by reading weights, so there are many programs."""
MANY = Tile(32, 128, 128)
"""For prompts. Not more rows: from 64 on Hopper has instructions that may round differently."""
CHOICES = ((FEW, MANY), (FEW,))


class TiledLinear:
    """As nn.Linear. With several tiles the smallest that holds the rows is used, else the last.

    Whether two tiles give the same bits is the GPU's to say: paceline.engine.torch.row_pieces asks.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *tiles: Tile) -> None:
        """Take over weight, [out, in], whose strides are free, and bias, [out]."""
        self._weight, self._bias = weight, bias
        self._tiles = tiles

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] to [rows, out]."""
        rows = x.shape[0]
        tile = next((one for one in self._tiles if rows <= one.rows), self._tiles[-1])
        return multiply(x, self._weight, self._bias, tile)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, tile: Tile) -> Tensor:
    """[rows, in] times [out, in], and bias: [rows, out]."""
    x = x if x.stride(1) == 1 else x.contiguous()
    (rows, inputs), outputs = x.shape, weight.shape[0]
    given = x.new_empty(rows, outputs)
    block = tile.input_bytes // x.element_size()
    row_tiles = triton.cdiv(rows, tile.rows)
    multiply_tile[(row_tiles * triton.cdiv(outputs, tile.outputs),)](
        *(x, weight, x if bias is None else bias, given),
        *(rows, row_tiles, outputs, inputs, x.stride(0), *weight.stride()),
        BLOCK_ROWS=tile.rows,
        BLOCK_OUTPUTS=tile.outputs,
        BLOCK_INPUTS=block,
        HAS_BIAS=bias is not None,
        EVEN=inputs % block == 0,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return given


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As rms_norm of layer_operators, of [rows, width] or [rows, heads, width]."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    rows, heads, width = x.shape[0], x.shape[1] if x.dim() == 3 else 1, x.shape[-1]
    given = x.new_empty(x.shape)
    normalize[rows, heads](
        *(x, weight, given, eps, x.stride(0), x.stride(1) if x.dim() == 3 else 0),
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
    )
    return given


def tiled_linears(weight: Tensor, bias: Tensor | None) -> dict[str, TiledLinear]:
    """Layers to choose from, by name, the fastest first."""
    return {
        f"TiledLinear {'/'.join(map(str, tiles))}": TiledLinear(weight, bias, *tiles)
        for tiles in CHOICES
    }
