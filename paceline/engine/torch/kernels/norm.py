"""RMSNorm of each row by a program of its own: the kernel of paceline.engine.torch.tiled."""

import triton
import triton.language as tl


@triton.jit
def normalize(
    x,
    weight,
    given,
    eps,
    x_row,
    x_head,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    numbers = tl.load(x + row * x_row + head * x_head + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(numbers * numbers, 0) / WIDTH + eps)
    # As transformers: rounded to the dtype of the model before the weight.
    rounded = (numbers * scale).to(given.dtype.element_ty).to(tl.float32)
    weights = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    place = (row * tl.num_programs(1) + head) * WIDTH + at
    tl.store(given + place, (rounded * weights).to(given.dtype.element_ty), mask=inside)
