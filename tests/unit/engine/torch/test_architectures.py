"""Every causal language model that transformers has is computed right or refused by name."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig

from paceline.catalog import CATALOG
from paceline.engine.interfaces import Logits, Span
from paceline.engine.torch.gguf.config import FAMILIES
from paceline.engine.torch.loading import LoadedModel, load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from paceline.errors import FailedPrecondition
from paceline.model_files import model_types
from paceline.model_files.check import check_folder
from paceline.model_files.model_types import outcomes
from tests.marks import slow
from tests.supported_models import PAGE, page, reason
from tests.tiny_architectures import (
    MODEL_TYPES,
    NOT_BUILT,
    VOCABULARY,
    tiny_architecture,
    whole_class,
)

BUILT = [name for name in MODEL_TYPES if name not in NOT_BUILT]
SERVED = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi", "phi3"),
    *("gemma", "gemma3_text", "gemma3n_text", "gemma4_text", "gpt2", "gpt_neox", "gpt_oss", "opt"),
    *("granite", "granitemoe", "olmo2", "olmo3", "olmoe", "cohere", "cohere2", "starcoder2"),
    *("stablelm", "apertus", "nemotron", "smollm3", "glm4", "glm4_moe", "deepseek_v2"),
    *("deepseek_v3", "exaone4", "flint", "mimo_v2_flash", "phimoe", "minicpm3", "ernie4_5"),
    *("gemma2", "vaultgemma", "gemma3", "gemma4", "llava", "mistral3", "internvl", "qwen2_vl"),
    *("qwen2_5_vl", "qwen3_vl"),
}
"""Must not be refused, whatever else is."""
REFUSED = {
    "bloom": "position",
    "mpt": "attends by code of its own",
    "gptj": "attends by code of its own",
    "falcon": "attends by code of its own",
    "codegen": "attends by code of its own",
    "big_bird": "attends by code of its own",
    "xglm": "attends by code of its own",
    "openai-gpt": "attends by code of its own",
    "gpt_neox_japanese": "attends by code of its own",
    "diffllama": "more than once in a layer",
    "mamba": "linear_attention",
    "llama4_text": "chunked_attention",
    "roberta": "not computed right",
}
OF_SERVED = {model_types.SERVED, model_types.SERVED_TEXT}
KNOWN = sorted(SERVED | REFUSED.keys())
TOKENS, OTHER = 40, 23


def tokens_of(length: int, seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(3, VOCABULARY, length).tolist())


@pytest.fixture
def exact_softmax(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """transformers' own attention takes softmax in float32, whatever the model's numbers."""
    softmax = functional.softmax
    with monkeypatch.context() as patch:
        patch.setattr(functional, "softmax", lambda x, dim, dtype=None: softmax(x, dim=dim))
        yield


def load(model_type: str, folder: Path) -> LoadedModel | FailedPrecondition:
    """The model, or why it is refused."""
    try:
        return load_model(folder, torch.float64)
    except FailedPrecondition as error:
        return error


def check_refusal(model_type: str, error: str) -> None:
    """It names the model and why, in a line, as the page does."""
    assert model_type not in SERVED, error
    assert REFUSED.get(model_type, "") in error
    assert "model type" in error
    assert "\n" not in error
    assert outcomes()[model_type] == reason(error)


def in_pieces(runner: ModelRunner) -> Logits:
    """All rows, in pieces beside another session; one of them is rolled back and run again."""
    tokens, other = tokens_of(TOKENS, 1), tokens_of(OTHER, 2)
    cache, beside = runner.new_cache(TOKENS), runner.new_cache(OTHER)
    rows, at, other_at = [], 0, 0
    for size in (13, 1, 9, 5, 12):
        if size == 9:
            runner.forward([(cache, Span(at, (3, 4, 5), 3))])
        some = other[other_at : other_at + 4]
        spans = (Span(other_at, some, 1), Span(at, tokens[at : at + size], size))
        rows.append(runner.forward(list(zip((beside, cache), spans, strict=True)))[1])
        at += size
        other_at += 4
    return np.concatenate(rows)


@torch.inference_mode()
def of_transformers(folder: Path) -> Logits:
    kind = whole_class(AutoConfig.from_pretrained(folder))
    model = kind.from_pretrained(
        folder,
        dtype=torch.float64,
        attn_implementation="eager",
        experts_implementation="eager",
    ).eval()
    logits = model(input_ids=torch.tensor([tokens_of(TOKENS, 1)]), use_cache=False).logits[0]
    return logits.numpy()  # type: ignore[no-any-return]


@pytest.mark.usefixtures("exact_softmax")
@pytest.mark.parametrize("model_type", [*KNOWN, *slow(*sorted({*BUILT} - {*KNOWN}))])
def test_it_is_computed_as_transformers_does_or_refused(model_type: str, tmp_path: Path) -> None:
    tiny_architecture(model_type).save_pretrained(tmp_path)
    loaded = load(model_type, tmp_path)
    if isinstance(loaded, FailedPrecondition):
        check_refusal(model_type, str(loaded))
        return
    check_folder(tmp_path)
    assert model_type not in REFUSED
    assert outcomes()[model_type] in OF_SERVED
    padding = batch_invariant(torch.float64)
    runner = ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)
    expected = of_transformers(tmp_path)
    limit = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(in_pieces(runner), expected, rtol=0, atol=limit)


def test_the_page_has_the_table_that_models_are_checked_by() -> None:
    assert PAGE.read_text("utf-8") == page()


def test_the_page_names_what_is_read_of_gguf_and_what_can_be_pulled() -> None:
    text = PAGE.read_text("utf-8")
    [row] = [line for line in text.splitlines() if line.startswith("| GGUF")]
    assert re.findall(r"`(\w+)`", row) == list(FAMILIES)
    assert all(f"`{name}`" in text for name in CATALOG)


def test_hardly_any_is_left_out() -> None:
    assert set(NOT_BUILT) <= set(MODEL_TYPES)
    assert len(NOT_BUILT) <= len(MODEL_TYPES) // 8


@pytest.mark.parametrize("model_type", sorted(SERVED))
def test_it_runs_in_bfloat16(model_type: str, tmp_path: Path) -> None:
    """Some of transformers' modules mix dtypes where float64 does not show it."""
    tiny_architecture(model_type).save_pretrained(tmp_path)
    loaded = load_model(tmp_path, torch.bfloat16)
    padding = batch_invariant(torch.bfloat16)
    runner = ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)
    assert np.isfinite(in_pieces(runner)).all()
