"""What tests of prepared drafts share: rows of transformers with weights in 4 bits."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Logits, Runner, Span
from tests.tiny_models import BYTES

Tokens = tuple[int, ...]
Reference = Callable[[Tokens], Logits]
"""Rows of transformers."""
Close = Callable[[list[Logits], Logits], None]
"""Asserts that rows are the wanted ones."""
KvCase = Callable[[Runner, Reference, Close], None]
"""What holds of the KV of any engine."""


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


def sessions_beside_each_other_have_their_own_rows(
    runner: Runner, reference: Reference, close: Close
) -> None:
    prompts = [some_tokens(length, length) for length in (3, 40, 65)]
    caches = [runner.new_cache() for _ in prompts]
    batch = [(one, Span(0, prompt, 0)) for one, prompt in zip(caches, prompts, strict=True)]
    assert [rows.shape[0] for rows in runner.forward(batch)] == [0, 0, 0]
    step = [(cache, Span(cache.length, (7,), 1)) for cache in caches]
    for rows, prompt in zip(runner.forward(step), prompts, strict=True):
        close([rows], reference((*prompt, 7))[-1:])


def a_copy_is_a_cache_of_its_own(runner: Runner, reference: Reference, close: Close) -> None:
    tokens, cache = some_tokens(560), runner.new_cache()
    runner.forward([(cache, Span(0, tokens[:540], 0))])
    copied = cache.copy(530)  # a page that is shared, and a piece of one that is copied
    runner.forward([(copied, Span(530, (9,) * 12, 0))])
    [rows] = runner.forward([(cache, Span(540, tokens[540:], 20))])
    close([rows], reference(tokens)[540:])
    [rows] = runner.forward([(copied, Span(530, tokens[530:550], 20))])
    close([rows], reference(tokens[:550])[530:])


def kv_grows_where_there_is_less_of_it_than_sessions_have(
    runner: Runner, reference: Reference, close: Close
) -> None:
    tokens = some_tokens(20)
    caches = [runner.new_cache() for _ in range(9)]
    for cache in caches:
        runner.forward([(cache, Span(0, tokens[:19], 0))])
    for cache in caches:
        [rows] = runner.forward([(cache, Span(19, tokens[19:], 1))])
        close([rows], reference(tokens)[-1:])


KV_CASES: tuple[KvCase, ...] = (
    sessions_beside_each_other_have_their_own_rows,
    a_copy_is_a_cache_of_its_own,
    kv_grows_where_there_is_less_of_it_than_sessions_have,
)
