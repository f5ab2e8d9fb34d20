"""Weights in 4 bits, and how they lie."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from paceline.engine.compiled.quantization import LEVELS, packed, quantized
from paceline.engine.compiled.shape import GROUP, WIDTH


def dequantized(weight: torch.Tensor) -> torch.Tensor:
    codes, scales, lows = quantized(weight)
    values = codes.float() * scales.float()[..., None] + lows.float()[..., None]
    return values.reshape(weight.shape)


@given(seed=st.integers(0, 2**31), offset=st.floats(-3, 3))
def test_no_range_is_taken_that_is_worse_than_the_whole_one(seed: int, offset: float) -> None:
    weight = torch.randn(4, 2 * GROUP, generator=torch.Generator().manual_seed(seed)) + offset
    groups = weight.reshape(4, 2, GROUP)
    step = (groups.amax(2) - groups.amin(2)) / LEVELS
    error = (dequantized(weight) - weight).reshape(groups.shape)
    # Codes are rounded by half a step at most, and the low as float16 has it.
    at_most = step / 2 + groups.amin(2).abs() * 2**-11
    assert (error.square().mean(2).sqrt() <= at_most * 1.01).all()


def test_weights_that_four_bits_have_are_kept_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (6, 3, GROUP))
    codes[..., 0], codes[..., 1] = 0, 15
    lows = np.random.default_rng(1).integers(-40, 40, (6, 3, 1)) * 0.25
    weight = torch.from_numpy((codes * 0.125 + lows).astype(np.float32)).reshape(6, -1)
    assert torch.equal(dequantized(weight), weight)


def test_a_group_of_one_number_is_that_number() -> None:
    assert torch.equal(dequantized(torch.full((2, GROUP), 0.5)), torch.full((2, GROUP), 0.5))


def test_a_code_lies_where_the_step_reads_it() -> None:
    codes = torch.zeros(3, 2 * GROUP)
    codes[2, 45] = 15.0  # output 2; in the second group input 13, the second half of its eight
    [block] = packed(codes)
    _, piece = block
    place = 64 * (13 // 8) + 4 * 2 + 13 % 4  # its eight inputs, its output, its input
    assert piece[place] == 15 << 4
    assert not piece[:place].any()
    assert block.shape == (2, WIDTH * GROUP // 2 + 4 * WIDTH)
