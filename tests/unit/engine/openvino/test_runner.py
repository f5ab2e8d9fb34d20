"""Drafts on OpenVINO beside transformers with the very same quantized weights."""

from pathlib import Path

import openvino as ov
import pytest
import torch

from paceline.engine.drafts.preparation import prepare, read_source
from paceline.engine.interfaces import Logits, Runner, Span
from paceline.engine.openvino.engine import OpenvinoEngine
from paceline.engine.openvino.quantization import quantize
from paceline.engine.openvino.runner import OpenvinoRunner
from paceline.engine.openvino.shape import GROUP
from paceline.engine.prepared.draft_file import read_prepared
from paceline.engine.torch.loading import load_model
from tests import prepared_drafts
from tests.prepared_drafts import (
    KV_CASES,
    KvCase,
    Reference,
    reference_of,
    shake_vectors,
    some_tokens,
)
from tests.tiny_models import tiny_model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
AS_EXACT_AS_CAN_BE = {
    "INFERENCE_PRECISION_HINT": ov.Type.f32,
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "KV_CACHE_PRECISION": ov.Type.f32,
}


def dequantized(weight: torch.Tensor) -> torch.Tensor:
    found = quantize(weight)
    codes, zeros = unpacked(found.codes), unpacked(found.zeros)
    steps = codes.reshape(weight.shape[0], -1, GROUP) - zeros.reshape(weight.shape[0], -1, 1)
    return (steps * found.scales.float()).reshape(weight.shape)


def unpacked(packed: torch.Tensor) -> torch.Tensor:
    return torch.stack((packed & 15, packed >> 4), -1).float()


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = str(request.param)
    heads = (4, 2) if family == "qwen3" else (2, 1)  # of widths that OpenVINO has
    folder = tmp_path_factory.mktemp("openvino") / family
    tiny_model(folder, family, dtype="bfloat16", heads=heads)
    shake_vectors(folder)
    return folder


@pytest.fixture(scope="module")
def runner(folder: Path) -> Runner:
    file = folder.with_suffix(".safetensors")
    loaded = load_model(folder, torch.bfloat16, "cpu", "int4")
    prepare(read_source(folder, loaded), file, OpenvinoEngine())
    return OpenvinoRunner(read_prepared(file), threads=1, pages=4, **AS_EXACT_AS_CAN_BE)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return reference_of(folder, dequantized)


def close(rows: list[Logits], wanted: Logits) -> None:
    prepared_drafts.close(rows, wanted, 0.05)


@pytest.mark.parametrize("case", KV_CASES)
def test_kv_is_of_each_session_alone(case: KvCase, runner: Runner, reference: Reference) -> None:
    case(runner, reference, close)


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


def test_what_is_cut_back_leaves_no_trace(runner: Runner, reference: Reference) -> None:
    tokens, cache = some_tokens(50), runner.new_cache()
    runner.forward([(cache, Span(0, (*tokens[:30], 1, 2, 3), 0))])
    [rows] = runner.forward([(cache, Span(30, tokens[30:], 20))])
    close([rows], reference(tokens)[30:])
