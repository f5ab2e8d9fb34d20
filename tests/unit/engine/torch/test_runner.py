"""The forward pass: what transformers computes, and row for row the same bits however it is cut."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Logits, Span
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.loading import LoadedModel, load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from paceline.engine.torch.startup import check_device
from paceline.errors import InvalidArgument
from tests.tiny_models import CONFIGS, VOCABULARY, tiny_model

MakeRunner = Callable[[str, str], ModelRunner]


@pytest.fixture(scope="module")
def make_runner(tmp_path_factory: pytest.TempPathFactory) -> MakeRunner:
    runners: dict[tuple[str, str], ModelRunner] = {}

    def make(family: str, dtype: str) -> ModelRunner:
        if (family, dtype) not in runners:
            folder = tiny_model(tmp_path_factory.mktemp(family), family, dtype=dtype)
            operators = BatchInvariantOperators(256)
            loaded = load_model(folder, getattr(torch, dtype), operators=operators)
            runners[family, dtype] = runner_of(loaded, getattr(torch, dtype))
        return runners[family, dtype]

    return make


def runner_of(loaded: LoadedModel, dtype: torch.dtype) -> ModelRunner:
    return ModelRunner(loaded.forward, loaded.device, batch_invariant(dtype))


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist())


def prefill(runner: ModelRunner, tokens: tuple[int, ...]) -> Logits:
    return runner.forward([(runner.new_cache(), Span(0, tokens, len(tokens)))])[0]


@pytest.mark.parametrize("family", CONFIGS)
def test_float64_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, family)
    tokens = prompt(80)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0].numpy()
    found = prefill(runner_of(load_model(folder, torch.float64), torch.float64), tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", CONFIGS)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_row_has_the_same_bits_however_it_is_run(
    family: str, dtype: str, make_runner: MakeRunner, data: st.DataObject
) -> None:
    """Decode, verify blocks, chunks and one prefill; beside others or alone; after rollback."""
    runner = make_runner(family, dtype)
    tokens = prompt(data.draw(st.sampled_from([3, 40, 90])), seed=1)
    expected = prefill(runner, tokens)
    cache = runner.new_cache()
    rows: list[Logits] = []
    done = 0
    while done < len(tokens):
        size = data.draw(st.sampled_from([1, 1, 2, 5, 8, 33]))
        piece = tokens[done : done + size]
        span = Span(done, piece, len(piece))
        others = [
            (runner.new_cache(), Span(0, prompt(length, seed=length), 1))
            for length in data.draw(st.lists(st.integers(1, 40), max_size=2))
        ]
        if data.draw(st.booleans()):  # draft tokens that are rolled back
            runner.forward([(cache, Span(done, (1, 2, 3), 3))])
        rows.append(runner.forward([*others, (cache, span)])[-1])
        done += size
    np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_rows_are_the_same_across_pages(make_runner: MakeRunner) -> None:
    """A decode step just behind a page's border against one prefill over it."""
    runner = make_runner("llama", "bfloat16")
    tokens = prompt(530)
    expected = prefill(runner, tokens)
    cache = runner.new_cache()
    runner.forward([(cache, Span(0, tokens[:505], 0))])
    rows = [runner.forward([(cache, Span(p, tokens[p : p + 1], 1))])[0] for p in range(505, 530)]
    np.testing.assert_array_equal(np.concatenate(rows), expected[505:])


def test_a_prompt_piece_needs_no_logits(make_runner: MakeRunner) -> None:
    runner = make_runner("llama", "float32")
    cache = runner.new_cache()
    [logits] = runner.forward([(cache, Span(0, (1, 2, 3), 0))])
    assert logits.shape == (0, VOCABULARY)
    assert cache.length == 3


@pytest.mark.parametrize("name", ["nope", "cuda:99"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_device(name)
    assert str(caught.value).startswith(
        f"--device is '{name}'; it must be a device that torch has here, such as cpu ("
    )
    assert "\n" not in str(caught.value)
    check_device("cpu")
