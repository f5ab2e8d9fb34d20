"""Drafts on OpenVINO beside transformers with the very same quantized weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Logits, Runner, Span
from paceline.engine.openvino.preparation import prepare
from paceline.engine.openvino.prepared import GROUP, read_prepared
from paceline.engine.openvino.quantization import quantize
from paceline.engine.openvino.runner import OpenvinoRunner
from paceline.engine.torch.loading import load_model
from tests.tiny_models import BYTES, tiny_model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
OFF = 0.05
"""How far a row may be off, relative to its size, with the very same weights."""
AS_EXACT_AS_CAN_BE = {
    "INFERENCE_PRECISION_HINT": ov.Type.f32,
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "KV_CACHE_PRECISION": ov.Type.f32,
}
Tokens = tuple[int, ...]
Reference = Callable[[Tokens], Logits]
"""Rows of transformers."""


def rounded(folder: Path) -> None:
    """Write its weights again as 4 bits have them: what is compared then is the computation."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embed" not in name:
                weight.copy_(torch.from_numpy(dequantized(weight)))
    model.save_pretrained(folder)


def dequantized(weight: torch.Tensor) -> NDArray[np.float32]:
    found = quantize(weight)
    codes, zeros = unpacked(found.codes), unpacked(found.zeros)
    shape = (weight.shape[0], -1, GROUP)
    steps = codes.reshape(shape) - zeros.reshape(weight.shape[0], -1, 1)
    weights: NDArray[np.float32] = (steps * found.scales.float().numpy()).astype(np.float32)
    return weights.reshape(tuple(weight.shape))


def unpacked(packed: torch.Tensor) -> NDArray[np.float32]:
    pairs = packed.numpy()
    return np.stack((pairs & 15, pairs >> 4), -1).astype(np.float32)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = str(request.param)
    heads = (4, 2) if family == "qwen3" else (2, 1)  # of widths that OpenVINO has
    folder = tmp_path_factory.mktemp("openvino") / family
    tiny_model(folder, family, dtype="bfloat16", heads=heads)
    rounded(folder)
    return folder


@pytest.fixture(scope="module")
def runner(folder: Path) -> Runner:
    file = folder.with_suffix(".safetensors")
    prepare(folder, file, load_model(folder, torch.bfloat16, "cpu", "int4"))
    return OpenvinoRunner(read_prepared(file), threads=1, pages=4, **AS_EXACT_AS_CAN_BE)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def rows(tokens: Tokens) -> Logits:
        found: Logits = model(torch.tensor([tokens])).logits[0].numpy()
        return found

    return rows


def some_tokens(count: int, seed: int = 0) -> Tokens:
    return tuple(np.random.default_rng(seed).integers(0, BYTES, count).tolist())


def close(rows: Sequence[Logits], wanted: Logits) -> None:
    found = np.concatenate(rows)
    assert found.shape == wanted.shape
    off = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert off.max() < OFF


def test_a_prompt_in_pieces_has_the_rows_of_transformers(
    runner: Runner, reference: Reference
) -> None:
    tokens, cache = some_tokens(90), runner.new_cache()
    ends = [1, 2, 9, 40, 73, 90]
    rows = [
        runner.forward([(cache, Span(start, tokens[start:end], end - start))])[0]
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    close(rows, reference(tokens))


def test_sessions_beside_each_other_have_their_own_rows(
    runner: Runner, reference: Reference
) -> None:
    prompts = [some_tokens(length, length) for length in (3, 40, 65)]
    caches = [runner.new_cache() for _ in prompts]
    batch = [(one, Span(0, prompt, 0)) for one, prompt in zip(caches, prompts, strict=True)]
    assert [rows.shape[0] for rows in runner.forward(batch)] == [0, 0, 0]
    step = [(cache, Span(cache.length, (7,), 1)) for cache in caches]
    for rows, prompt in zip(runner.forward(step), prompts, strict=True):
        close([rows], reference((*prompt, 7))[-1:])


def test_what_is_cut_back_leaves_no_trace(runner: Runner, reference: Reference) -> None:
    tokens, cache = some_tokens(50), runner.new_cache()
    runner.forward([(cache, Span(0, (*tokens[:30], 1, 2, 3), 0))])
    [rows] = runner.forward([(cache, Span(30, tokens[30:], 20))])
    close([rows], reference(tokens)[30:])


def test_a_copy_is_a_cache_of_its_own(runner: Runner, reference: Reference) -> None:
    tokens, cache = some_tokens(560), runner.new_cache()
    runner.forward([(cache, Span(0, tokens[:540], 0))])
    copied = cache.copy(530)  # a page that is shared, and a piece of one that is copied
    runner.forward([(copied, Span(530, (9,) * 12, 0))])
    [rows] = runner.forward([(cache, Span(540, tokens[540:], 20))])
    close([rows], reference(tokens)[540:])
    [rows] = runner.forward([(copied, Span(530, tokens[530:550], 20))])
    close([rows], reference(tokens[:550])[530:])


def test_kv_grows_where_there_is_less_of_it_than_sessions_have(
    runner: Runner, reference: Reference
) -> None:
    tokens = some_tokens(20)
    caches = [runner.new_cache() for _ in range(9)]
    for cache in caches:
        runner.forward([(cache, Span(0, tokens[:19], 0))])
    for cache in caches:
        [rows] = runner.forward([(cache, Span(19, tokens[19:], 1))])
        close([rows], reference(tokens)[-1:])
