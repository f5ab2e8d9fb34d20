"""Branches of a span: each row has the bits that it has where its tokens are decoded alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paceline.engine.interfaces import BranchingCache, KVCache, Logits, Runner, Span, SpanBranch
from paceline.engine.simulated import SimulatedModel, SimulatedRunner
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.kv_cache import SessionCache
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from tests.table_model import TableRunner
from tests.tiny_architectures import tiny_architecture
from tests.tiny_models import tiny_model

VOCABULARY = 8
"""Ids that all of them have."""
MAX_BATCHED_TOKENS = 64
LONGEST = 600
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}

Tokens = tuple[int, ...]


def torch_runner(folder: Path, dtype: str) -> Runner:
    numbers = getattr(torch, dtype)
    loaded = load_model(folder, numbers, operators=BatchInvariantOperators(MAX_BATCHED_TOKENS))
    padding = batch_invariant(numbers, MAX_BATCHED_TOKENS)
    return ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)


def of_family(family: str, dtype: str) -> Callable[[Path], Runner]:
    return lambda folder: torch_runner(tiny_model(folder / "model", family), dtype)


def of_type(model_type: str, **more: Any) -> Callable[[Path], Runner]:
    def make(folder: Path) -> Runner:
        tiny_architecture(model_type, **more).save_pretrained(folder)
        return torch_runner(folder, "bfloat16")

    return make


def simulated_runner() -> Runner:
    return SimulatedRunner(SimulatedModel.parse("simulated:step_ms=0"), drafts=False)


RUNNERS: dict[str, Callable[[Path], Runner]] = {
    "table": lambda _: TableRunner(VOCABULARY),
    "simulated": lambda _: SimulatedRunner(
        SimulatedModel.parse("simulated:step_ms=0"), drafts=False
    ),
    "fused, float32": of_family("llama", "float32"),
    "fused, bfloat16": of_family("llama", "bfloat16"),
    "fused, window": of_family("mistral", "bfloat16"),
    "fused, rope by length": of_type("llama", max_position_embeddings=32, rope_parameters=DYNAMIC),
    "generic, windows": of_family("gemma3", "float32"),
    "generic, softcap": of_type("gemma2"),
    "generic, sinks": of_type("gpt_oss"),
}


@pytest.fixture(scope="module", params=RUNNERS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return RUNNERS[request.param](tmp_path_factory.mktemp("runner"))


def some_tokens(count: int, seed: int = 0) -> Tokens:
    return tuple(np.random.default_rng(seed).integers(0, VOCABULARY, count).tolist())


def filled(runner: Runner, tokens: Tokens) -> KVCache:
    """A cache with `tokens`, run in pieces."""
    cache = runner.new_cache(LONGEST)
    for start in range(0, len(tokens), MAX_BATCHED_TOKENS):
        runner.forward([(cache, Span(start, tokens[start : start + MAX_BATCHED_TOKENS], 0))])
    return cache


def alone(runner: Runner, before: KVCache, known: Tokens, tokens: Tokens) -> Logits:
    """Rows of `tokens` behind `before` and `known`, one at a time, on a cache of their own."""
    cache = before.copy(before.length)
    if known:
        runner.forward([(cache, Span(cache.length, known, 0))])
    spans = [Span(cache.length + index, (token,), 1) for index, token in enumerate(tokens)]
    return np.concatenate([runner.forward([(cache, span)])[0] for span in spans])


def branched(start: int, chain: Tokens, forks: Sequence[tuple[int, int]]) -> Span:
    """A span of `chain`, with branches that begin at offsets in it and have so many tokens."""
    branches = tuple(
        SpanBranch(start + at, some_tokens(count, seed=100 + index))
        for index, (at, count) in enumerate(forks)
    )
    return Span(start, chain, len(chain), branches=branches)


def expected(runner: Runner, before: Tokens, span: Span) -> Logits:
    """Rows of the span and of its branches, each computed alone."""
    cache = filled(runner, before)
    rows = [alone(runner, cache, (), span.token_ids)]
    for branch in span.branches:
        known = span.token_ids[: branch.position - span.position]
        rows.append(alone(runner, cache, known, branch.token_ids))
    return np.concatenate(rows)


FORKS = ((1, 9), (4, 2), (1, 1), (0, 3), (5, 8))


@pytest.mark.parametrize("length", [3, 505])
def test_rows_of_branches_have_the_bits_of_rows_alone(runner: Runner, length: int) -> None:
    """Beside other sessions; at 505 branches reach over the end of a page."""
    before = [some_tokens(length, seed) for seed in range(3)]
    spans = [
        branched(length, some_tokens(6, 7), FORKS),
        branched(length, some_tokens(2, 8), ()),
        branched(length, some_tokens(4, 9), FORKS[:3]),
    ]
    caches = [filled(runner, tokens) for tokens in before]
    given = runner.forward(list(zip(caches, spans, strict=True)))
    for tokens, span, cache, rows in zip(before, spans, caches, given, strict=True):
        assert len(rows) == span.wanted_rows
        assert cache.length == length + len(span.token_ids)
        np.testing.assert_array_equal(rows, expected(runner, tokens, span))


@pytest.mark.parametrize("taken", [None, 0, 3, 4])
@pytest.mark.parametrize("length", [3, 507])
def test_a_session_goes_on_behind_the_branch_that_is_taken(
    runner: Runner, length: int, taken: int | None
) -> None:
    before, chain = some_tokens(length), some_tokens(6, 7)
    cache, span = filled(runner, before), branched(length, chain, FORKS)
    runner.forward([(cache, span)])
    known = before + chain
    if taken is not None:
        branch = span.branches[taken]
        assert isinstance(cache, BranchingCache)
        cache.take_branch(taken)
        known = known[: branch.position] + branch.token_ids
    assert cache.length == len(known)
    more = branched(len(known), some_tokens(5, 11), FORKS[:3])
    [rows] = runner.forward([(cache, more)])
    np.testing.assert_array_equal(rows, expected(runner, known, more))


def test_a_copy_has_the_taken_branch(runner: Runner) -> None:
    before, chain = some_tokens(20), some_tokens(6, 7)
    cache, span = filled(runner, before), branched(20, chain, FORKS)
    runner.forward([(cache, span)])
    assert isinstance(cache, BranchingCache)
    cache.take_branch(0)
    known = before + chain[:1] + span.branches[0].token_ids
    [rows] = runner.forward([(cache.copy(25), Span(25, some_tokens(4), 4))])
    shared = filled(runner, known[:25])
    np.testing.assert_array_equal(rows, alone(runner, shared, (), some_tokens(4)))


def test_a_cache_that_is_truncated_remembers_no_branch(tmp_path: Path) -> None:
    runner = of_family("llama", "float32")(tmp_path)
    cache = filled(runner, some_tokens(9))
    assert isinstance(cache, SessionCache)
    runner.forward([(cache, branched(9, some_tokens(6, 7), FORKS))])
    assert [len(cache.layer(index).branches) for index in range(2)] == [len(FORKS)] * 2
    cache.truncate(cache.length)
    assert [len(cache.layer(index).branches) for index in range(2)] == [0, 0]
