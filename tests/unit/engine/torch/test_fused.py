"""The fused forward pass honours whatever a config says, or leaves the model to transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Span
from paceline.engine.torch.fused import FusedModel
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from tests.tiny_architectures import VOCABULARY, tiny_architecture

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LAYERS = ["full_attention", "sliding_attention"] * 2
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "yarn": ("qwen2", {"rope_parameters": YARN}),
    "linear rope": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "partial rotary": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.5,
            }
        },
    ),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen3 biases": ("qwen3", {"attention_bias": True}),
    "other activation": ("llama", {"hidden_act": "gelu"}),
    "heads of another width": ("llama", {"head_dim": 24}),
    "no groups": ("llama", {"num_key_value_heads": 4}),
    "tied": ("qwen2", {"tie_word_embeddings": True}),
    "another epsilon": ("llama", {"rms_norm_eps": 0.1}),
    "slice weights": ("llama", {"pretraining_tp": 2}),
    "mistral window": ("mistral", {"sliding_window": 5}),
    "mistral none": ("mistral", {"sliding_window": None}),
    "qwen2 all slide": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
    ),
    "qwen2 some slide": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "qwen2 listed": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "layer_types": LAYERS},
    ),
    "qwen3 listed": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 5, "layer_types": LAYERS},
    ),
    "no window after all": ("qwen2", {"use_sliding_window": False, "sliding_window": 5}),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    model_type, config = CONFIGS[case]
    tiny_architecture(model_type, **config).save_pretrained(tmp_path)
    tokens = tuple(np.random.default_rng(0).integers(3, VOCABULARY, 90).tolist())
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0].numpy()
    loaded = load_model(tmp_path, torch.float64)
    runner = ModelRunner(loaded.forward, loaded.device, batch_invariant(torch.float64))
    [found] = runner.forward([(runner.new_cache(90), Span(0, tokens, 90))])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("case", ["llama", "biases", "yarn", "qwen2 some slide", "tied"])
def test_it_is_the_fused_pass_that_computes_them(case: str, tmp_path: Path) -> None:
    model_type, config = CONFIGS[case]
    tiny_architecture(model_type, **config).save_pretrained(tmp_path)
    assert isinstance(load_model(tmp_path, torch.float64).forward, FusedModel)
