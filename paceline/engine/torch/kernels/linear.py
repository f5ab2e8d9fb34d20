"""Products with weights: the kernel of paceline.engine.torch.tiled.

A program computes one tile of outputs and adds up its inputs in one order, from the first to the
last. How many rows there are decides how many programs run, and nothing else: their count is no
number that the compiler may specialize on.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "row_tiles"])
def multiply_tile(
    x,
    weight,
    bias,
    given,
    rows,
    row_tiles,
    outputs,
    inputs,
    x_row,
    weight_output,
    weight_input,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EVEN: tl.constexpr,
):
    # Tiles of the same outputs follow each other: their weights are still in the cache.
    tile = tl.program_id(0)
    row = (tile % row_tiles) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    output = (tile // row_tiles) * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    is_row, is_output = row < rows, output < outputs
    of_rows = x + row.to(tl.int64)[:, None] * x_row
    of_outputs = weight + output.to(tl.int64)[None] * weight_output
    total = tl.zeros((BLOCK_ROWS, BLOCK_OUTPUTS), tl.float32)
    for start in range(0, inputs, BLOCK_INPUTS):
        at = start + tl.arange(0, BLOCK_INPUTS)
        x_mask, weight_mask = is_row[:, None], is_output[None]
        if not EVEN:
            x_mask = x_mask & (at < inputs)[None]
            weight_mask = weight_mask & (at < inputs)[:, None]
        x_block = tl.load(of_rows + at[None], mask=x_mask, other=0.0)
        weights = tl.load(of_outputs + at[:, None] * weight_input, mask=weight_mask, other=0.0)
        total = tl.dot(x_block, weights, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)[None]
    tl.store(
        given + row.to(tl.int64)[:, None] * outputs + output[None],
        total.to(given.dtype.element_ty),
        mask=is_row[:, None] & is_output[None],
    )
