"""KV in pages: what the loop over spans computes, batch-invariant, with and without graphs.

Here the kernels run in Triton's interpreter; on a GPU's day they run there (DEVICE_OF_TESTS).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Logits, Span
from paceline.engine.torch import loading
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.exactness.probe import Probed, probe
from paceline.engine.torch.padding import batch_invariant
from tests.conftest import DEVICE
from tests.marks import slow
from tests.tiny_models import VOCABULARY, tiny_model

pytest.importorskip("triton", reason="needs triton: pip install 'paceline[dev]', on Linux")

from paceline.engine.torch.paged.runner import PagedRunner, cuda_graph

MakeRunner = Callable[..., PagedRunner]
FAMILIES = ["llama", "mistral", *slow("qwen3", "gemma")]


def at_once(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """In place of a graph: computes on the same tensors each time."""
    return compute


def small_model(folder: Path, family: str = "llama", **more: Any) -> Path:
    """The interpreter runs one head after the other: most have two over one of KV."""
    heads = (4, 2) if family == "mistral" else (2, 1)
    return tiny_model(folder, family, heads=heads, width=16 * heads[0], **more)


@pytest.fixture(scope="module")
def make_runner(tmp_path_factory: pytest.TempPathFactory) -> MakeRunner:
    made: dict[tuple[str, str, bool], PagedRunner] = {}

    def make(family: str = "llama", dtype: str = "float32", *, graphs: bool = False) -> PagedRunner:
        key = (family, dtype, graphs)
        if key not in made:
            folder = small_model(tmp_path_factory.mktemp(family), family, dtype=dtype)
            made[key] = paged_runner(folder, dtype, graphs=graphs)
        return made[key]

    return make


def paged_runner(folder: Path, dtype: str, *, graphs: bool, pages: int = 4) -> PagedRunner:
    numbers = getattr(torch, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "native_operators", lambda *_, **__: None)  # they are for the CPU
        loaded = loading.load_model(folder, numbers, DEVICE, operators=BatchInvariantOperators(64))
    capture = (at_once if DEVICE == "cpu" else cuda_graph) if graphs else None
    padding = batch_invariant(numbers, 64)
    reach = loaded.rope_length.of
    return PagedRunner(loaded.forward, loaded.device, padding, pages, reach, capture)


def tokens_of(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist())


def rows_of(runner: PagedRunner, tokens: tuple[int, ...]) -> Logits:
    return runner.forward([(runner.new_cache(), Span(0, tokens, len(tokens)))])[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    folder, tokens = tiny_model(tmp_path, family, dtype="float32"), tokens_of(60)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(DEVICE).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([tokens], device=DEVICE)).logits[0].cpu().numpy()
    found = rows_of(paged_runner(folder, "float32", graphs=False), tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize(
    ("family", "dtype", "graphs"),
    [
        ("llama", "bfloat16", True),
        ("mistral", "float32", False),
        *slow(
            ("llama", "float32", False),
            ("mistral", "bfloat16", False),
            ("mistral", "float32", True),
            ("qwen3", "bfloat16", False),
        ),
    ],
)
def test_a_row_has_the_same_bits_however_it_is_run(
    family: str, dtype: str, graphs: bool, make_runner: MakeRunner
) -> None:
    """Decoded, verified in blocks, in chunks and at once; beside others; behind a rollback."""
    runner, tokens = make_runner(family, dtype, graphs=graphs), tokens_of(70, seed=1)
    expected, cache, done = rows_of(runner, tokens), runner.new_cache(), 0
    rows: list[Logits] = []
    for size in (1, 5, 1, 1, 33, 2, 1, 5, 1, 8, 1, 11):
        piece = tokens[done : done + size]
        beside = [(runner.new_cache(), Span(0, tokens_of(n, n), n)) for n in range(1, size % 4)]
        if size == 1:  # draft tokens that are rolled back
            runner.forward([(cache, Span(done, (1, 2, 3), 3))])
        rows.append(runner.forward([*beside, (cache, Span(done, piece, len(piece)))])[-1])
        done += size
    np.testing.assert_array_equal(np.concatenate(rows), expected)


@pytest.mark.slow
def test_the_probe_finds_nothing(tmp_path: Path) -> None:
    """Long contexts over pages, mixed batches, copied prefixes, drafts rolled back."""
    folder = small_model(tmp_path, dtype="float32", num_hidden_layers=1)
    runner = paged_runner(folder, "float32", graphs=False)
    assert probe(runner, VOCABULARY, 1024, 256) == Probed((), branches_agree=True)


@pytest.mark.slow
def test_graphs_are_made_anew_where_pages_moved(tmp_path: Path) -> None:
    folder = small_model(tmp_path, dtype="float32")
    runner, tokens = paged_runner(folder, "float32", graphs=True, pages=1), tokens_of(6)
    expected = rows_of(runner, tokens)
    caches = [runner.new_cache() for _ in range(12)]
    for cache in caches:
        runner.forward([(cache, Span(0, tokens[:5], 0))])
    for cache in caches:
        [rows] = runner.forward([(cache, Span(5, tokens[5:], 1))])
        np.testing.assert_array_equal(rows, expected[5:])
