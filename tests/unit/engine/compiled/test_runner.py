"""The compiled step beside transformers with the very same quantized weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paceline.engine.compiled import library
from paceline.engine.compiled.engine import CompiledEngine
from paceline.engine.compiled.library import FORMS
from paceline.engine.compiled.runner import CompiledRunner
from paceline.engine.compiling import CompiledForm, key_of
from paceline.engine.drafts.preparation import prepare, read_source
from paceline.engine.interfaces import Logits, Runner, Span
from paceline.engine.prepared.draft_file import read_prepared
from paceline.engine.torch.loading import load_model
from paceline.errors import FailedPrecondition
from tests import prepared_drafts
from tests.prepared_drafts import (
    KV_CASES,
    KvCase,
    Reference,
    reference_of,
    shake_vectors,
    some_tokens,
)
from tests.tiny_models import VOCABULARY, tiny_model
from tests.unit.engine.compiled.test_quantization import dequantized

ENGINE = CompiledEngine()
pytestmark = pytest.mark.skipif(bool(ENGINE.why_not()), reason=f"not here: {ENGINE.why_not()}")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
RUN_HERE = [form for form in FORMS if form.runs_here]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = str(request.param)
    folder = tmp_path_factory.mktemp("compiled") / family
    # Larger weights make attention so sharp that rows rounded to 8 bits attend elsewhere.
    more: dict[str, Any] = {"initializer_range": 0.05}
    more |= {"head_dim": 32} if family == "qwen3" else {}
    tiny_model(folder, family, dtype="bfloat16", heads=(2, 1), **more)
    shake_vectors(folder)
    return folder


@pytest.fixture(scope="module", params=RUN_HERE, ids=lambda form: form.name)
def form(request: pytest.FixtureRequest) -> Iterator[CompiledForm]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "form", lambda: request.param)
        yield request.param


@pytest.fixture(scope="module", params=[1, 3])
def runner(folder: Path, form: CompiledForm, request: pytest.FixtureRequest) -> Runner:
    file = folder.with_suffix(".safetensors")
    loaded = load_model(folder, torch.bfloat16, "cpu", "int4")
    prepare(read_source(folder, loaded), file, ENGINE)
    runner = CompiledRunner(read_prepared(file), threads=request.param, pages=4)
    assert key_of(*form.compiled_from) in runner._library._name
    return runner


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return reference_of(folder, dequantized)


def close(rows: list[Logits], wanted: Logits) -> None:
    prepared_drafts.close(rows, wanted, 0.1)  # rows are in 8 bits, KV in bfloat16


@pytest.mark.parametrize("case", KV_CASES)
def test_kv_is_of_each_session_alone(case: KvCase, runner: Runner, reference: Reference) -> None:
    case(runner, reference, close)


def test_a_prompt_has_the_rows_of_transformers(runner: Runner, reference: Reference) -> None:
    tokens = some_tokens(700)  # of more pages than one
    close(runner.forward([(runner.new_cache(), Span(0, tokens, 700))]), reference(tokens))


def test_a_row_has_the_same_bits_in_whatever_pieces_it_comes(runner: Runner) -> None:
    tokens = some_tokens(60)
    [whole] = runner.forward([(runner.new_cache(), Span(0, tokens, 60))])
    cache, ends = runner.new_cache(), [1, 3, 6, 10, 15, 21, 28, 37, 60]
    for start, end in zip([0, *ends], ends, strict=False):
        [rows] = runner.forward([(cache, Span(start, tokens[start:end], end - start))])
        assert np.array_equal(rows, whole[start:end])


def test_what_is_cut_back_leaves_no_trace(runner: Runner) -> None:
    tokens, cache = some_tokens(50), runner.new_cache()
    [whole] = runner.forward([(runner.new_cache(), Span(0, tokens, 20))])
    runner.forward([(cache, Span(0, (*tokens[:30], 1, 2, 3), 0))])
    [rows] = runner.forward([(cache, Span(30, tokens[30:], 20))])
    assert np.array_equal(rows, whole)


def test_a_token_without_an_embedding_is_refused(runner: Runner) -> None:
    for wrong in (VOCABULARY, -1):
        with pytest.raises(IndexError, match=rf"they must be 0 to {VOCABULARY - 1}$"):
            runner.forward([(runner.new_cache(), Span(0, (7, wrong), 1))])


def test_a_model_of_other_widths_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny", dtype="bfloat16", heads=(4, 2))  # heads of 16 numbers
    loaded = load_model(folder, torch.bfloat16, "cpu", "int4")
    with pytest.raises(
        FailedPrecondition, match=r"^head_dim is 16; it must be a multiple of 32 up to 256$"
    ):
        prepare(read_source(folder, loaded), tmp_path / "file", ENGINE)
    assert not (tmp_path / "file").exists()
