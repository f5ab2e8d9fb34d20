import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from paceline.engine.openvino.quantization import LEVELS, quantize
from paceline.engine.openvino.shape import GROUP


def dequantized(weight: torch.Tensor) -> torch.Tensor:
    found = quantize(weight)
    codes, zeros = (
        torch.stack((one & 15, one >> 4), -1).flatten().float()
        for one in (found.codes, found.zeros)
    )
    steps = codes.reshape(weight.shape[0], -1, GROUP) - zeros.reshape(weight.shape[0], -1, 1)
    return (steps * found.scales.float()).reshape(weight.shape)


@given(seed=st.integers(0, 2**31), offset=st.floats(-3, 3))
def test_no_range_is_taken_that_is_worse_than_the_whole_one(seed: int, offset: float) -> None:
    weight = torch.randn(4, 2 * GROUP, generator=torch.Generator().manual_seed(seed)) + offset
    groups = weight.reshape(4, 2, GROUP)
    low, high = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
    error = (dequantized(weight) - weight).reshape(groups.shape)
    # A zero that is rounded moves codes by half a step, and so does rounding itself.
    at_most = (high - low) / LEVELS * 1.01
    assert (error.square().mean(2).sqrt() <= at_most).all()


def test_weights_that_four_bits_have_are_kept_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (6, 3, GROUP))
    codes[..., 0], codes[..., 1] = 0, 15
    zeros = np.random.default_rng(1).integers(0, 16, (6, 3, 1))
    weight = torch.from_numpy(((codes - zeros) * 0.125).astype(np.float32)).reshape(6, -1)
    assert torch.equal(dequantized(weight), weight)


def test_a_group_of_zeros_is_zero() -> None:
    assert not dequantized(torch.zeros(2, GROUP)).any()
