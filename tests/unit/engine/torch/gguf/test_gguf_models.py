"""Models converted from GGUF: the logits of the original, or a refusal that names why."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from paceline.engine.torch.gguf.convert import convert_gguf
from paceline.engine.torch.loading import load_model
from paceline.errors import FailedPrecondition
from paceline.protocol.sampling import Sampling
from tests.gguf_files import Fill, byte_level_vocabulary, tiny_model, write_gguf

IDS = torch.arange(40)[None] % 250
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.25, 1.5, 2.0],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 32,
    "attention_factor": 1.25,
}


def config(model_type: str, **values: Any) -> PreTrainedConfig:
    """A tiny config with special tokens that its vocabulary has."""
    base: dict[str, Any] = {
        "vocab_size": 256,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    return AutoConfig.for_model(model_type, **base | values)


def plain(writer: gguf.GGUFWriter) -> None:
    """A vocabulary and nothing more."""
    byte_level_vocabulary(writer)


def llama3(writer: gguf.GGUFWriter) -> None:
    """The factors that stand for Llama 3's parameters."""
    plain(writer)
    wavelengths = 2 * np.pi * 500000.0 ** (np.arange(0, 8, 2) / 8)
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    factors = 1 / ((1 - smooth) / 8 + smooth)
    writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))


def odd_factors(writer: gguf.GGUFWriter) -> None:
    """Factors of nobody's parameters."""
    plain(writer)
    writer.add_tensor("rope_freqs.weight", np.array([1, 1.5, 3, 5], np.float32))


def yarn(writer: gguf.GGUFWriter) -> None:
    """YaRN as people add it to Qwen2 files."""
    plain(writer)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(16)


def linear(writer: gguf.GGUFWriter) -> None:
    """Positions that are divided."""
    plain(writer)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


def long_rope(writer: gguf.GGUFWriter) -> None:
    """Phi-3's two lists of factors."""
    plain(writer)
    writer.add_rope_dimension_count(8)
    writer.add_sliding_window(16)
    writer.add_rope_scaling_orig_ctx_len(32)
    writer.add_rope_scaling_attn_factors(1.25)
    writer.add_tensor("rope_factors_long.weight", np.array(LONG["long_factor"], np.float32))
    writer.add_tensor("rope_factors_short.weight", np.array(LONG["short_factor"], np.float32))


def window(writer: gguf.GGUFWriter) -> None:
    """A sliding window."""
    plain(writer)
    writer.add_sliding_window(16)


def no_window(writer: gguf.GGUFWriter) -> None:
    """Phi-4 is told from Phi-3 by a window of zero."""
    plain(writer)
    writer.add_sliding_window(0)


def gemma2(writer: gguf.GGUFWriter) -> None:
    """Soft caps, a window, and heads wider than their share."""
    window(writer)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_attn_logit_softcapping(20.0)
    writer.add_final_logit_softcapping(10.0)


def gemma3(writer: gguf.GGUFWriter) -> None:
    """A window, and a scaled embedding for the layers without it."""
    window(writer)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


def wide_heads(writer: gguf.GGUFWriter) -> None:
    """Heads wider than their share."""
    plain(writer)
    writer.add_key_length(16)
    writer.add_value_length(16)


def stablelm(writer: gguf.GGUFWriter) -> None:
    """A quarter of each head is rotated."""
    plain(writer)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_dimension_count(2)
    writer.add_parallel_residual(False)


def half_rotated(writer: gguf.GGUFWriter) -> None:
    """Half of each head is rotated."""
    plain(writer)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_dimension_count(4)


def layer_norm(writer: gguf.GGUFWriter) -> None:
    """LayerNorm's epsilon."""
    plain(writer)
    writer.add_layer_norm_eps(1e-5)


def experts(writer: gguf.GGUFWriter) -> None:
    """Four experts, two at a time."""
    plain(writer)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(24)
    writer.add_key_length(8)
    writer.add_value_length(8)


def shared_expert(writer: gguf.GGUFWriter) -> None:
    """Four experts and a shared one."""
    plain(writer)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(24)
    writer.add_expert_shared_feed_forward_length(40)


MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
FAMILIES: dict[str, tuple[str, PreTrainedConfig, Fill]] = {
    "llama": ("llama", config("llama"), plain),
    "llama, tied": ("llama", config("llama", tie_word_embeddings=True), plain),
    "llama, biases": ("llama", config("llama", attention_bias=True, mlp_bias=True), plain),
    "llama, wide heads": ("llama", config("llama", head_dim=16), wide_heads),
    "llama 3": ("llama", config("llama", rope_parameters=LLAMA3), llama3),
    "llama, yarn": ("llama", config("llama", rope_parameters=YARN), yarn),
    "llama, linear": ("llama", config("llama", rope_parameters=LINEAR), linear),
    "mistral": ("llama", config("mistral", sliding_window=16), window),
    "qwen2": ("qwen2", config("qwen2"), plain),
    "qwen2, yarn": ("qwen2", config("qwen2", rope_parameters=YARN), yarn),
    "qwen3": ("qwen3", config("qwen3", head_dim=16), wide_heads),
    "qwen2moe": (
        "qwen2moe",
        config("qwen2_moe", shared_expert_intermediate_size=40, **MOE),
        shared_expert,
    ),
    "qwen3moe": ("qwen3moe", config("qwen3_moe", head_dim=8, norm_topk_prob=True, **MOE), experts),
    "phi3": ("phi3", config("phi3", sliding_window=None), plain),
    "phi3, no window": ("phi3", config("phi3", sliding_window=None), no_window),
    "phi3, longrope": (
        "phi3",
        config(
            "phi3", rope_parameters=LONG, original_max_position_embeddings=32, sliding_window=16
        ),
        long_rope,
    ),
    "gemma2": (
        "gemma2",
        config(
            "gemma2",
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=16,
            attn_logit_softcapping=20.0,
            final_logit_softcapping=10.0,
            tie_word_embeddings=True,
        ),
        gemma2,
    ),
    "gemma3": (
        "gemma3",
        config(
            "gemma3_text",
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=16,
            num_hidden_layers=7,
            rope_parameters=GEMMA3_ROPE,
            tie_word_embeddings=True,
        ),
        gemma3,
    ),
    "stablelm": ("stablelm", config("stablelm", partial_rotary_factor=0.25), stablelm),
    "nemotron": (
        "nemotron",
        config("nemotron", partial_rotary_factor=0.5, norm_eps=1e-5),
        half_rotated,
    ),
    "starcoder2": ("starcoder2", config("starcoder2", norm_epsilon=1e-5), layer_norm),
}


def logits(model: PreTrainedModel) -> torch.Tensor:
    """Logits of 40 positions, with eager attention."""
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_converted_model_has_the_originals_logits(name: str, tmp_path: Path) -> None:
    architecture, settings, fill = FAMILIES[name]
    original = tiny_model(settings)
    file = write_gguf(tmp_path / "model.gguf", architecture, original, fill)
    convert_gguf(file, tmp_path / "folder")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float64)
    assert converted.config.architectures == [type(original).__name__]
    torch.testing.assert_close(logits(converted), logits(original), rtol=0, atol=1e-6)


def test_factors_of_nobodys_parameters_are_honoured(tmp_path: Path) -> None:
    original = tiny_model(config("llama"))
    file = write_gguf(tmp_path / "model.gguf", "llama", original, odd_factors)
    convert_gguf(file, tmp_path / "folder")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float64)
    powers = 10000.0 ** (torch.arange(0, 8, 2, dtype=torch.int64).float() / 8)
    original.model.rotary_emb.inv_freq = 1.0 / (torch.tensor([1, 1.5, 3, 5]) * powers)
    torch.testing.assert_close(logits(converted), logits(original), rtol=0, atol=1e-6)


def scaled(factors: bool, attention: float, scale: float = 1.0) -> Fill:
    """Factors or not, scaled linearly or not, and with or without a factor of attention."""

    def fill(writer: gguf.GGUFWriter) -> None:
        (odd_factors if factors else plain)(writer)
        if scale != 1.0:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(scale)
        if attention != 1.0:
            writer.add_rope_scaling_attn_factors(attention)

    return fill


@pytest.mark.parametrize(
    ("factors", "attention", "scale"),
    [(True, 1.0, 4.0), (False, 1.5, 1.0), (False, 1.5, 4.0), (True, 1.5, 4.0)],
)
def test_scalings_that_meet_are_all_honoured(
    factors: bool, attention: float, scale: float, tmp_path: Path
) -> None:
    original: Any = tiny_model(config("llama"))
    fill = scaled(factors, attention, scale)
    file = write_gguf(tmp_path / "model.gguf", "llama", original, fill)
    convert_gguf(file, tmp_path / "folder")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float64)
    powers = 10000.0 ** (torch.arange(0, 8, 2, dtype=torch.int64).float() / 8)
    own = torch.tensor([1, 1.5, 3, 5]) if factors else torch.ones(4)
    original.model.rotary_emb.inv_freq = 1.0 / (scale * own * powers)
    original.model.rotary_emb.attention_scaling = attention
    torch.testing.assert_close(logits(converted), logits(original), rtol=0, atol=1e-6)


def test_factors_beside_yarn_are_refused(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        yarn(writer)
        writer.add_tensor("rope_freqs.weight", np.array([1, 1.5, 3, 5], np.float32))

    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), fill)
    with pytest.raises(FailedPrecondition, match=r"rope_freqs\.weight beside .* yarn"):
        convert_gguf(file, tmp_path / "folder")


@pytest.mark.parametrize("key", ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"])
def test_a_value_of_another_kind_is_said_in_a_line(key: str, tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        plain(writer)
        writer.add_key_value(key, "ten", gguf.GGUFValueType.STRING)

    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), fill)
    with pytest.raises(FailedPrecondition) as caught:
        convert_gguf(file, tmp_path / "folder")
    assert "\n" not in str(caught.value)


REFUSED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "logit_scale": ("add_logit_scale", (0.5,)),
    "attention.scale": ("add_attention_scale", (0.5,)),
    "expert_count": ("add_expert_count", (8,)),
    "attention.clamp_kqv": ("add_clamp_kqv", (8.0,)),
    "attention.value_length 4": ("add_value_length", (4,)),
    "made.up": ("add_float32", ("llama.made.up", 2.0)),
    "blk.0.made_up.weight": ("add_tensor", ("blk.0.made_up.weight", np.ones(4, np.float32))),
    "rope_freqs.weight has 2 factors, not 4": (
        "add_tensor",
        ("rope_freqs.weight", np.array([1, 2], np.float32)),
    ),
    "rope_factors_long.weight is missing": (
        "add_tensor",
        ("rope_factors_short.weight", np.array([1, 2, 3, 4], np.float32)),
    ),
    "rope.dimension_count 4": ("add_rope_dimension_count", (4,)),
    "rope.scaling.type": ("add_string", ("llama.rope.scaling.type", "odd")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_honoured_is_refused_by_name(name: str, tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        plain(writer)
        add, values = REFUSED[name]
        getattr(writer, add)(*values)

    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), fill)
    with pytest.raises(FailedPrecondition, match=name):
        convert_gguf(file, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_token_without_a_row_of_weights_is_refused(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        byte_level_vocabulary(writer, special={"<|a|>": 3, "<|b|>": 3})
        writer.add_eos_token_id(257)

    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), fill)
    with pytest.raises(FailedPrecondition, match=r"258 tokens, token_embd\.weight 256 rows"):
        convert_gguf(file, tmp_path / "folder")


def test_a_model_without_end_tokens_generates_in_transformers_too(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), plain)
    convert_gguf(file, tmp_path / "folder")
    converted: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    assert converted.generation_config.eos_token_id is None
    assert converted.generate(IDS[:, :4], max_new_tokens=2, do_sample=False).shape == (1, 6)


def test_how_the_model_likes_to_sample_is_kept(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        plain(writer)
        writer.add_float32("general.sampling.temp", 0.6)
        writer.add_int32("general.sampling.top_k", 20)
        writer.add_float32("general.sampling.top_p", 1.5)  # is left out
        writer.add_float32("general.sampling.penalty_repeat", 1.05)

    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), fill)
    convert_gguf(file, tmp_path / "folder")
    content = json.loads((tmp_path / "folder" / "generation_config.json").read_text())
    said = {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True}
    assert content == said
    loaded = load_model(tmp_path / "folder", torch.float64)
    assert loaded.default_sampling == Sampling(0.6, 20, repetition_penalty=1.05)


def test_heads_are_all_of_keys_where_the_file_does_not_count_those(tmp_path: Path) -> None:
    original = tiny_model(config("llama", num_key_value_heads=4))
    original.config.num_key_value_heads = None
    file = write_gguf(tmp_path / "model.gguf", "llama", original, plain)
    convert_gguf(file, tmp_path / "folder")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float64)
    torch.testing.assert_close(logits(converted), logits(original), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("fill", "kind"), [(linear, "linear"), (yarn, "yarn")])
def test_a_scaling_that_a_family_has_no_code_for_is_refused(
    fill: Fill, kind: str, tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "model.gguf", "phi3", tiny_model(config("phi3")), fill)
    with pytest.raises(FailedPrecondition, match=rf"rope\.scaling {kind} is not served for phi3"):
        convert_gguf(file, tmp_path / "folder")


def test_a_window_that_a_family_would_not_use_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", "qwen2", tiny_model(config("qwen2")), window)
    with pytest.raises(FailedPrecondition, match=r"attention\.sliding_window = 16"):
        convert_gguf(file, tmp_path / "folder")


def test_neutral_keys_are_no_hindrance(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        plain(writer)
        writer.add_expert_count(0)
        writer.add_logit_scale(1.0)
        writer.add_tensor_data_layout("Meta AI original pth")
        writer.add_string("general.made_up", "of no weight")

    file = write_gguf(tmp_path / "model.gguf", "llama", tiny_model(config("llama")), fill)
    convert_gguf(file, tmp_path / "folder")
    AutoTokenizer.from_pretrained(tmp_path / "folder")
