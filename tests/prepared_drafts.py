"""What tests of prepared drafts share: rows of transformers with weights in 4 bits."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Logits
from tests.tiny_models import BYTES

Tokens = tuple[int, ...]
Reference = Callable[[Tokens], Logits]
"""Rows of transformers."""


def shake_vectors(folder: Path) -> None:
    """Norms of ones and biases of zeros, as a random model has them, would show nothing."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.2 * torch.randn(weight.shape, generator=noise))
    model.save_pretrained(folder)


def reference_of(folder: Path, rounded: Callable[[torch.Tensor], torch.Tensor]) -> Reference:
    """With weights as 4 bits have them: what is compared is the computation."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embed" not in name:
                weight.copy_(rounded(weight))

    @torch.inference_mode()
    def rows(tokens: Tokens) -> Logits:
        found: Logits = model(torch.tensor([tokens])).logits[0].numpy()
        return found

    return rows


def some_tokens(count: int, seed: int = 0) -> Tokens:
    return tuple(np.random.default_rng(seed).integers(0, BYTES, count).tolist())


def close(rows: Sequence[Logits], wanted: Logits, off: float) -> None:
    """off: how far a row may be off, relative to its size."""
    found = np.concatenate(rows)
    assert found.shape == wanted.shape
    assert (np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max() < off
