"""Frequencies that depend on the sequence's length: each session has its own."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Logits, Span
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from tests.tiny_architectures import VOCABULARY, tiny_architecture

ORIGINAL = 64
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    "long_factor": [1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0, 12.0],
    "original_max_position_embeddings": ORIGINAL,
    "factor": 8.0,
}
LONG = {"rope_parameters": LONGROPE, "max_position_embeddings": 512}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3 longrope": (
        "phi3",
        {**LONG, "original_max_position_embeddings": ORIGINAL},  # of which it takes the limit
    ),
    "llama longrope": ("llama", LONG),
    "llama dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": ORIGINAL}),
    "glm dynamic": ("glm", {"rope_parameters": DYNAMIC, "max_position_embeddings": ORIGINAL}),
}


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(3, VOCABULARY, length).tolist())


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_type, config = MODELS[request.param]
    folder: Path = tmp_path_factory.mktemp("model")
    # A config writes into the dict that it is given.
    tiny_architecture(model_type, **deepcopy(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runner(model: Path) -> ModelRunner:
    loaded = load_model(model, torch.float64)
    padding = batch_invariant(torch.float64)
    return ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)


def alone(runner: ModelRunner, tokens: tuple[int, ...], max_length: int, size: int) -> Logits:
    cache = runner.new_cache(max_length)
    pieces = range(0, len(tokens), size)
    spans = [Span(at, tokens[at : at + size], len(tokens[at : at + size])) for at in pieces]
    return np.concatenate([runner.forward([(cache, span)])[0] for span in spans])


@pytest.mark.parametrize("length", [40, ORIGINAL, 100])
def test_whole_sequences_are_what_transformers_computes(
    model: Path, runner: ModelRunner, length: int
) -> None:
    """On both sides of the switch, also behind one from the other side."""
    tokens = prompt(length)
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0].numpy()
    alone(runner, prompt(150), 150, 150)
    found = alone(runner, tokens, length, length)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("most", [50, 100, 140])
def test_a_row_has_the_same_bits_beside_sessions_of_other_lengths(
    runner: ModelRunner, most: int
) -> None:
    tokens = prompt(48)
    expected = alone(runner, tokens, most, 48)
    np.testing.assert_array_equal(alone(runner, tokens, most, 7), expected)
    cache, others = runner.new_cache(most), [runner.new_cache(length) for length in (30, 90, 200)]
    found = []
    for at in range(0, 48, 8):
        beside = [(other, Span(at, tokens[at : at + 5], 1)) for other in others]
        found.append(runner.forward([*beside, (cache, Span(at, tokens[at : at + 8], 8))])[-1])
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_sessions_share_kv_only_where_their_lengths_agree(runner: ModelRunner) -> None:
    lengths = [runner.new_cache(length).rope_length for length in (10, ORIGINAL, ORIGINAL + 1, 100)]
    assert lengths[0] == lengths[1] == 0
    assert 0 not in lengths[2:]
    copied = runner.new_cache(100)
    alone(runner, prompt(8), 100, 8)
    assert copied.copy(0).rope_length == copied.rope_length
