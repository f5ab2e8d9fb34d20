"""What every Runner keeps to: one more, of another device, is a line in RUNNERS."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from draft_server.engine_without_model import NoRunner
from paceline.engine.interfaces import Logits, Runner, Span
from paceline.engine.simulated import SimulatedModel, SimulatedRunner
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from paceline.errors import Internal
from tests.table_model import TableRunner
from tests.tiny_models import tiny_model

VOCABULARY = 8
"""Ids that all of them have."""
MAX_BATCHED_TOKENS = 64

Tokens = tuple[int, ...]


def torch_runner(folder: Path, family: str, dtype: str) -> Runner:
    folder = tiny_model(folder / "model", family, dtype=dtype)
    numbers = getattr(torch, dtype)
    loaded = load_model(folder, numbers, operators=BatchInvariantOperators(MAX_BATCHED_TOKENS))
    padding = batch_invariant(numbers, MAX_BATCHED_TOKENS)
    return ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)


def simulated_runner(*, drafts: bool) -> Runner:
    return SimulatedRunner(SimulatedModel.parse("simulated:step_ms=0"), drafts=drafts)


RUNNERS: dict[str, Callable[[Path], Runner]] = {
    "table": lambda _: TableRunner(VOCABULARY),
    "simulated target": lambda _: simulated_runner(drafts=False),
    "simulated draft": lambda _: simulated_runner(drafts=True),
    "torch, fused, float32": lambda folder: torch_runner(folder, "llama", "float32"),
    "torch, fused, bfloat16": lambda folder: torch_runner(folder, "llama", "bfloat16"),
    "torch, generic, float32": lambda folder: torch_runner(folder, "gemma", "float32"),
}


@pytest.fixture(scope="module", params=RUNNERS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return RUNNERS[request.param](tmp_path_factory.mktemp("runner"))


def some_tokens(count: int, seed: int = 0) -> Tokens:
    return tuple(np.random.default_rng(seed).integers(0, VOCABULARY, count).tolist())


def rows_of(runner: Runner, tokens: Tokens) -> Logits:
    """Of all `tokens`, run at once and alone."""
    return runner.forward([(runner.new_cache(), Span(0, tokens, len(tokens)))])[0]


def same(rows: Sequence[Logits], expected: Logits) -> None:
    np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_forward_appends_a_span_and_gives_logits_of_its_last_rows(runner: Runner) -> None:
    cache, tokens = runner.new_cache(12), some_tokens(12)
    assert cache.length == 0
    [none] = runner.forward([(cache, Span(0, tokens[:7], 0))])
    assert cache.length == 7
    assert len(none) == 0
    [two] = runner.forward([(cache, Span(7, tokens[7:], 2))])
    assert cache.length == 12
    assert two.dtype in (np.float32, np.float64)
    same([two], rows_of(runner, tokens)[-2:])


def test_rows_do_not_depend_on_how_tokens_are_cut(runner: Runner) -> None:
    tokens, cache = some_tokens(40), runner.new_cache()
    ends = [1, 2, 7, 8, 31, 40]
    rows = [
        runner.forward([(cache, Span(start, tokens[start:end], end - start))])[0]
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    same(rows, rows_of(runner, tokens))


def test_rows_do_not_depend_on_the_batch(runner: Runner) -> None:
    lengths = [1, 5, 17, 2]
    prompts = [some_tokens(length, seed) for seed, length in enumerate(lengths)]
    batch = [(runner.new_cache(), Span(0, tokens, len(tokens))) for tokens in prompts]
    for tokens, rows in zip(prompts, runner.forward(batch), strict=True):
        same([rows], rows_of(runner, tokens))
    step = [(cache, Span(cache.length, (3,), 1)) for cache, _ in reversed(batch)]
    for tokens, rows in zip(reversed(prompts), runner.forward(step), strict=True):
        same([rows], rows_of(runner, (*tokens, 3))[-1:])


def test_what_is_truncated_leaves_no_trace(runner: Runner) -> None:
    tokens, cache = some_tokens(20), runner.new_cache()
    runner.forward([(cache, Span(0, (*tokens[:10], 7, 7, 7, 7), 0))])
    cache.truncate(10)
    assert cache.length == 10
    [rows] = runner.forward([(cache, Span(10, tokens[10:], 10))])
    same([rows], rows_of(runner, tokens)[10:])


def test_a_span_truncates_its_cache_to_its_position(runner: Runner) -> None:
    tokens, cache = some_tokens(20), runner.new_cache()
    runner.forward([(cache, Span(0, (*tokens[:10], 7, 7), 1))])
    [rows] = runner.forward([(cache, Span(10, tokens[10:], 10))])
    assert cache.length == 20
    same([rows], rows_of(runner, tokens)[10:])


def test_a_copy_is_a_cache_of_its_own(runner: Runner) -> None:
    tokens, cache = some_tokens(30), runner.new_cache()
    runner.forward([(cache, Span(0, tokens[:20], 0))])
    copied = cache.copy(15)
    assert (copied.length, copied.rope_length) == (15, cache.rope_length)
    runner.forward([(copied, Span(15, (7, 7, 7), 1))])
    [rows] = runner.forward([(cache, Span(20, tokens[20:], 10))])
    same([rows], rows_of(runner, tokens)[20:])
    [rows] = runner.forward([(copied, Span(15, tokens[15:20], 5))])
    same([rows], rows_of(runner, tokens)[15:20])


def test_where_there_is_no_model_there_are_sessions_and_no_rows() -> None:
    runner: Runner = NoRunner()
    cache = runner.new_cache(1000)
    cache.truncate(0)
    assert cache.length == cache.copy(0).length == 0
    with pytest.raises(Internal, match="no model"):
        runner.forward([(cache, Span(0, (1,), 1))])
