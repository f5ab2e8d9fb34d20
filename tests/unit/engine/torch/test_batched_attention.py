"""One attention call for all spans of a step gives the bits of the loop over them, on the CPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.batched_attention import AttentionStep

SPANS = st.lists(st.tuples(st.integers(0, 1100), st.integers(1, 9)), min_size=1, max_size=6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@settings(max_examples=20)
@given(spans=SPANS)
def test_it_is_the_loop_bit_for_bit(dtype: torch.dtype, spans: list[tuple[int, int]]) -> None:
    """Ragged spans: some decode, some verify a block, some begin."""
    step = AttentionStep(spans, dtype)
    assert torch.equal(step.together(), step.loop())
