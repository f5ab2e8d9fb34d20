"""A tiny random model of every language model that transformers knows, those that see included."""

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

MODEL_TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
VOCABULARY = 96
_WIDTH, _HEADS, _HEAD_WIDTH, _LAYERS, _POSITIONS, _WINDOW = 64, 4, 16, 4, 512, 8

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "model_dim", "embed_dim"), _WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), _LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "global_head_dim", "attention_head_dim"), _HEAD_WIDTH),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner"), 2 * _WIDTH),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), _WIDTH),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_num_experts",), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk"), 2),
    **dict.fromkeys(("moe_top_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), _POSITIONS),
    **dict.fromkeys(("n_ctx", "seq_length", "max_sequence_length"), _POSITIONS),
    **dict.fromkeys(("sliding_window", "attention_window_size"), _WINDOW),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers",), 2),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), _HEADS),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "dim_ff", "dff"), _WIDTH),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), _HEAD_WIDTH),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 32),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), _HEAD_WIDTH),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("hidden_size_per_layer_input",), 16),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
    "rotary_dim": 8,
    "first_k_dense_replace": 1,
    "num_kv_shared_layers": 0,
}

_MLA = (
    "axk1",
    "axk2",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "minicpm3",
    "youtu",
)
_DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_MROPE = {"text_config": {"rope_parameters": {**_DEFAULT_ROPE, "mrope_section": [2, 3, 3]}}}
"""Sections of the halves of a head for time, height and width."""
_HALF_MROPE = {"text_config": {"rope_parameters": {**_DEFAULT_ROPE, "mrope_section": [1, 1, 2]}}}
_HALF_MROPE["text_config"]["rope_parameters"]["partial_rotary_factor"] = 0.5
_SEES = {"num_hidden_layers": 2, "hidden_size": _WIDTH, "intermediate_size": 2 * _WIDTH}
_CODECS = ("acoustic", "semantic")
_CODEC = {"num_filters": 4, "depths": (1,) * 7}
_SPEECH = {"hidden_dim": _WIDTH, "num_heads": _HEADS, "dim_head": _HEAD_WIDTH}
_VQ = {"image_token_embed_dim": _WIDTH, "projection_dim": _WIDTH, "base_channels": 32}
_VQ["num_embeddings"] = VOCABULARY
"""What hears and draws is large unless it is told otherwise."""
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni_thinker", "qwen3_vl"), _MROPE),
    **dict.fromkeys(("glm4v", "glm46v", "paddleocr_vl", "cosmos3_edge"), _MROPE),
    **dict.fromkeys(("glm4v_moe", "glm_ocr", "glmga"), _HALF_MROPE),
    **{name: {"vision_config": _SEES} for name in ("gemma4", "gemma4_unified")},
    "gemma3": {"text_config": {"num_hidden_layers": 6}},
    "exaone4_5": {"text_config": {"model_type": "exaone4"}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [3, 2]}},
    "ernie4_5_vl_moe": {"text_config": {"moe_intermediate_size": [_WIDTH, _WIDTH]}},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": _WIDTH // 4}},
    "granite_docling": {"vision_config": {"out_hidden_size": _WIDTH}},
    "hunyuan_vl": {"text_config": {"rope_parameters": _DEFAULT_ROPE}},
    "inkling2": {"vision_config": {"text_hidden_size": _WIDTH}},
    "muse_spark": {
        "projector_hidden_size": _WIDTH,
        "audio_config": {"out_hidden_size": _WIDTH, "hidden_sizes": (16, 32, 64, 128)},
    },
    "muse_glimmer": {"projector_hidden_size": _WIDTH},
    "janus": {"vq_config": _VQ},
    "vibevoice_asr": {f"{what}_tokenizer_encoder_config": _CODEC for what in _CODECS},
    **{name: {"encoder_config": _SPEECH} for name in ("granite_speech", "granite_speech_plus")},
    "mistral4": {"num_key_value_heads": _HEADS},
    "kimi_k25": {"text_config": {"num_key_value_heads": _HEADS}},
    **{name: {"num_key_value_heads": _HEADS} for name in _MLA},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": _WINDOW},
    "hunyuan_v1_dense": {"head_dim": _HEAD_WIDTH},
    "hunyuan_v1_moe": {"head_dim": _HEAD_WIDTH},
    "ministral": {"head_dim": _HEAD_WIDTH},
    "nemotron": {"head_dim": _HEAD_WIDTH, "num_key_value_heads": 2},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "deepseek_v2": {"num_key_value_heads": _HEADS, "num_experts_per_tok": 2},
    "lfm2_moe": {"layer_types": ["full_attention"] * _LAYERS},
    "gemma3_text": {"num_hidden_layers": 6},
    "ernie4_5_moe": {"moe_k": 2},
    "zamba": {"num_hidden_layers": 8},
    "mamba2": {"num_heads": 8},
    "zamba2": {"layer_types": ["mamba", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"axial_pos_embds": False},
    "phi3": {"rope_parameters": _DEFAULT_ROPE},
}
"""What a config needs beyond sizes."""
NOT_BUILT = {
    **dict.fromkeys(("blt", "longcat_flash", "xlm", "dots3_note_text", "dots3_note"), "not tiny"),
    **dict.fromkeys(("blenderbot", "kimi_linear"), "not tiny"),
    **dict.fromkeys(("musicgen", "musicgen_melody"), "its config is of three models"),
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), "drafts for another model"),
    **dict.fromkeys(("qwen4_exp", "qwen4_exp_text"), "its defaults do not agree"),
    **dict.fromkeys(("cohere_compass_text", "dbrx"), "its defaults do not agree"),
    **dict.fromkeys(("chameleon", "cohere_compass", "deepseek_ocr2"), "its defaults do not agree"),
    **dict.fromkeys(("diffusion_gemma", "emu3", "florence2"), "its defaults do not agree"),
    **dict.fromkeys(("ernie4_5_vl_moe", "granite4_vision"), "its parts do not agree when tiny"),
    **dict.fromkeys(("glm5_next", "hunyuan_vl"), "its parts do not agree when tiny"),
    **dict.fromkeys(("nemo_speechlm",), "its parts do not agree when tiny"),
    **dict.fromkeys(("nemotron_h_omni", "qwen3_omni_moe"), "its parts do not agree when tiny"),
    "kyutai_speech_to_text": "its parts do not agree when tiny",
    "evolla": "its config is of three models",
    "shieldgemma2": "transformers does not load what it saves",
    **dict.fromkeys(("gemma3n", "fast_vlm", "perception_lm"), "needs timm"),
}
"""Not tried, and why; load_model refuses what it cannot compute here as well."""


def tiny_architecture(model_type: str, **more: Any) -> PreTrainedModel:
    """A random model in float64 of one of MODEL_TYPES; raises what its class does.

    more: of its config.
    """
    kind = CONFIG_MAPPING[model_type]
    config = kind(**_merged(_sizes(kind()), {**SPECIAL.get(model_type, {}), **more}))
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    torch.manual_seed(0)
    model = whole_class(config)._from_config(
        config, dtype=torch.float64, experts_implementation="eager"
    )
    with torch.no_grad():  # some begin as zeros or ones, which hide mistakes
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.15 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    model.eval()
    return model  # type: ignore[no-any-return]


def whole_class(config: PreTrainedConfig) -> Any:
    """The class of the whole model: for one that also sees or hears, with all its parts."""
    order = [MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING]
    if type(config.get_text_config(decoder=True)) is not type(config):
        order.reverse()
    return next(one[type(config)] for one in order if type(config) in one)


def _merged(sizes: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`sizes` with `more`, also within the configs of parts."""
    parts = {
        name: _merged(sizes[name], value)
        for name, value in more.items()
        if name.endswith("_config") and isinstance(sizes.get(name), dict)
    }
    return {**sizes, **more, **parts}


def _sizes(config: PreTrainedConfig) -> dict[str, Any]:
    """Arguments that make a config of this kind tiny."""
    given = {
        name: SIZES[name]
        for name, value in config.to_dict().items()
        if name in SIZES and (value is not None or name.endswith("token_id"))
    }
    nested = {
        name: _sizes(value)
        for name, value in vars(config).items()
        if isinstance(value, PreTrainedConfig)
    }
    return {**given, **nested}
