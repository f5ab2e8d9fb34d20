"""Capped attention: by its definition, and with the same bits however many keys follow."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.exactness.probe import Probed, probe
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from paceline.engine.torch.softcap import capped_attention
from tests.tiny_architectures import tiny_architecture

HEADS, ROWS, KEYS, WIDTH = 2, 8, 1536, 16
MAX_BATCHED_TOKENS = 64


def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values, and a mask with a window: whole blocks are hidden on both sides."""
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (
        torch.randn(HEADS, size, WIDTH, generator=generator, dtype=torch.float64)
        for size in (ROWS, KEYS, KEYS)
    )
    mask = torch.full((ROWS, KEYS), torch.finfo(torch.float64).min / 2, dtype=torch.float64)
    mask[:, 600:900] = 0.0
    return query * 9, keys, values, mask


@pytest.mark.parametrize("block", [512, 1536])
@pytest.mark.parametrize("hides", [True, False])
def test_it_is_softmax_of_capped_scores(block: int, hides: bool) -> None:
    query, keys, values, mask = tensors()
    scores = 5.0 * torch.tanh(query @ keys.transpose(1, 2) * 0.3 / 5.0)
    expected = torch.softmax(scores + (mask if hides else 0.0), dim=-1) @ values
    found = capped_attention(query, keys, values, mask if hides else None, 0.3, 5.0, block)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_blocks_that_are_hidden_change_no_bit() -> None:
    query, keys, values, mask = tensors()
    whole = capped_attention(query, keys, values, mask, None, 5.0, 512)
    part = slice(0, 1024)
    fewer = capped_attention(query, keys[:, part], values[:, part], mask[:, part], None, 5.0, 512)
    assert torch.equal(whole, fewer)


@pytest.mark.parametrize("model_type", ["gemma2", "vaultgemma"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rows_have_the_same_bits_in_every_batch(
    model_type: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    tiny_architecture(model_type).save_pretrained(tmp_path)
    operators = BatchInvariantOperators(MAX_BATCHED_TOKENS)
    loaded = load_model(tmp_path, dtype, operators=operators)
    padding = batch_invariant(dtype, MAX_BATCHED_TOKENS)
    runner = ModelRunner(loaded.forward, loaded.device, padding)
    sizes = (loaded.vocabulary_size, loaded.max_positions, MAX_BATCHED_TOKENS)
    assert probe(runner, *sizes) == Probed((), branches_agree=True)
    assert not operators.varying
