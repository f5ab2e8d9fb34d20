"""GGUF metadata into a config. A key that would not be honoured is refused, never dropped."""

from typing import Any

import numpy as np
from transformers import AutoConfig, PreTrainedConfig
from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING

from paceline.engine.torch.gguf.gguf_file import GGUFFile
from paceline.engine.torch.gguf.rope import rope_parameters
from paceline.engine.torch.gguf.vocabulary import GGUFVocabulary
from paceline.errors import FailedPrecondition

FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "phi3": "phi3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
    "falcon": "falcon",
    "bloom": "bloom",
    "gpt2": "gpt2",
    "nemotron": "nemotron",
}
"""Decoders of attention layers, by the names that GGUF and transformers have for them."""
_NO_ROPE = {"bloom", "gpt2"}
_SEVERAL_ROPES = {"gemma3"}
_PARTIAL_ROPE = {"nemotron", "phi3", "stablelm"}
"""Families whose code in transformers can rotate a part of each head; that of others ignores it."""
_ROPE_TYPES = {"phi3": {"default", "longrope"}}
"""The only scalings of a family."""
_SOFTCAPS = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
_OPTIONAL = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.sliding_window": "sliding_window",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "expert_weights_norm": "norm_topk_prob",
    "feed_forward_length": "intermediate_size",
}
"""What transformers' table leaves out, where a config has such an entry."""
_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
"""What configs call LayerNorm's epsilon."""
_IGNORED = {"tensor_data_layout", "vocab_size", "context_length", "feed_forward_length"}
"""Keys that change no numbers, or that the shapes of tensors repeat."""
_NEUTRAL: dict[str, set[Any]] = {
    "expert_count": {0},
    "expert_used_count": {0},
    "expert_shared_count": {0},
    "expert_weights_scale": {0.0, 1.0},
    "expert_gating_func": {0, 1},
    "attention.causal": {True},
    "attention.clamp_kqv": {0.0},
    "attention.sliding_window": {0},
    "attention.max_alibi_bias": {0.0, 8.0},
    "logit_scale": {1.0},
    "residual_scale": {1.0},
    "embedding_scale": {1.0},
    "nextn_predict_layers": {0},
    "pooling_type": {0},
}
"""Values that change nothing."""


class Keys:
    """The keys of the architecture, and those that nothing has read yet."""

    def __init__(self, source: GGUFFile) -> None:
        prefix = f"{source.architecture}."
        self._values = {
            key.removeprefix(prefix): _plain(key, value)
            for key, value in source.metadata.items()
            if key.startswith(prefix)
        }
        self._left = set(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key that is honoured by what reads it here."""
        self._left.discard(key)
        return self._values.get(key, default)

    def get(self, key: str) -> Any:
        """The value of a key, which may not be honoured."""
        return self._values.get(key)

    def left(self) -> list[str]:
        """Keys that were not taken and whose values would change the model."""
        return sorted(
            f"{key} = {self._values[key]!r}"
            for key in self._left - _IGNORED
            if self._values[key] not in _NEUTRAL.get(key, ())
        )


def _plain(key: str, value: Any) -> Any:
    """A value in its simplest form: float32 as its shortest decimal, one value for equal layers."""
    if isinstance(value, list) and value and all(entry == value[0] for entry in value):
        value = value[0]
    if isinstance(value, list):
        return tuple(value)
    return float(str(np.float32(value))) if isinstance(value, float) else value


def make_config(source: GGUFFile, vocabulary: GGUFVocabulary | None) -> PreTrainedConfig:
    """The config of a file. Raises FailedPrecondition naming what a config cannot express."""
    family = FAMILIES.get(source.architecture)
    if family is None:
        raise FailedPrecondition(
            f"{source.path.name} is of architecture {source.architecture!r}; "
            f"GGUF files are read of {', '.join(FAMILIES)}"
        )
    keys, shapes = Keys(source), {t.name: t.shape for t in source.tensors()}
    if "token_embd.weight" not in shapes:
        raise FailedPrecondition(f"{source.path.name} has no tensor token_embd.weight")
    if family == "llama" and keys.take("attention.sliding_window", 0):
        family = "mistral"  # the same but for the window
    _refuse_rowless(source, vocabulary, int(shapes["token_embd.weight"][1]))
    values = _mapped(keys, family, source.architecture)
    values |= _of_tensors(source.architecture, shapes) | _ids(vocabulary)
    values |= _of_heads(keys, values)
    if source.architecture not in _NO_ROPE:
        values |= _rope(source, keys, values)
    values |= _of_family(source.architecture, keys, values, shapes)
    if left := keys.left():
        raise FailedPrecondition(f"{source.path.name} has keys not honoured: {', '.join(left)}")
    if family == "falcon":  # it computes its heads' width
        values.pop("head_dim")
    return AutoConfig.for_model(family, **values)


def _refuse_rowless(source: GGUFFile, vocabulary: GGUFVocabulary | None, rows: int) -> None:
    count = 0 if vocabulary is None else len(vocabulary.tokens)
    if count > rows:
        raise FailedPrecondition(
            f"{source.path.name} has {count} tokens, token_embd.weight {rows} rows"
        )


def _mapped(keys: Keys, family: str, architecture: str) -> dict[str, Any]:
    """What transformers' own table says, and the entries it leaves out."""
    known = AutoConfig.for_model(family)
    mapping: Any = GGUF_CONFIG_MAPPING
    table = mapping.get(family) or mapping[architecture]
    entries = {key: name for key, name in _OPTIONAL.items() if hasattr(known, name)}
    if hasattr(known, "use_sliding_window") or not keys.get("attention.sliding_window"):
        entries.pop("attention.sliding_window", None)  # it would not be used, or is none
    epsilon = next((name for name in _EPSILONS if hasattr(known, name)), None)
    if epsilon is not None:
        entries["attention.layer_norm_epsilon"] = epsilon
    entries |= {key: name for key, name in table.items() if name and "rope." not in key}
    values: dict[str, Any] = dict(GGUF_CONFIG_DEFAULTS_MAPPING.get(family, {}))
    for key, name in entries.items():
        if key in keys:
            values[name] = keys.take(key)
    if hasattr(known, "sliding_window") and "gemma" not in family:
        values.setdefault("sliding_window", None)  # the family's default is not the file's
    return values | {
        name: None for name in _SOFTCAPS if name not in values and hasattr(known, name)
    }


def _of_tensors(architecture: str, shapes: dict[str, Any]) -> dict[str, Any]:
    """What follows from which tensors there are, and from their shapes."""
    values: dict[str, Any] = {
        "vocab_size": int(shapes["token_embd.weight"][1]),
        "tie_word_embeddings": "output.weight" not in shapes,
    }
    if architecture in ("llama", "qwen3", "qwen3moe"):
        values["attention_bias"] = "blk.0.attn_q.bias" in shapes
    if architecture == "llama":
        values["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    if architecture == "stablelm":
        values["use_qkv_bias"] = "blk.0.attn_q.bias" in shapes
        values["use_parallel_residual"] = "blk.0.ffn_norm.weight" not in shapes
        values["qk_layernorm"] = "blk.0.attn_q_norm.weight" in shapes
    return values


def _ids(vocabulary: GGUFVocabulary | None) -> dict[str, int | None]:
    """Without a vocabulary no token has a meaning."""
    roles = {} if vocabulary is None else vocabulary.ids
    return {f"{role}_token_id": roles.get(role) for role in ("bos", "eos", "pad")}


def _of_heads(keys: Keys, values: dict[str, Any]) -> dict[str, Any]:
    """Heads and their width, by llama.cpp's defaults where a file does not say."""
    heads = values.get("num_attention_heads") or values.get("n_head")
    hidden = values.get("hidden_size") or values.get("n_embd")
    if not isinstance(heads, int) or not isinstance(hidden, int):
        raise FailedPrecondition(f"attention.head_count {heads!r} is not served: layers differ")
    width = int(keys.take("attention.key_length", hidden // heads))
    if (other := int(keys.take("attention.value_length", width))) != width:
        raise FailedPrecondition(f"attention.value_length {other} is not its key_length {width}")
    scale = float(keys.take("attention.scale", 0.0))
    if scale and abs(scale * width**0.5 - 1) > 1e-5:
        raise FailedPrecondition(f"attention.scale {scale:g} is not served")
    kv = values.get("num_key_value_heads", keys.take("attention.head_count_kv", heads))
    if not isinstance(kv, int):
        raise FailedPrecondition(f"attention.head_count_kv {kv!r} is not served: layers differ")
    if "n_head" in values:
        return {}
    return {"head_dim": width, "num_key_value_heads": kv}


def _rope(source: GGUFFile, keys: Keys, values: dict[str, Any]) -> dict[str, Any]:
    positions = int(values.get("max_position_embeddings") or 0)
    rope = rope_parameters(source, keys.take, values["head_dim"], positions)
    _refuse_unread(source.architecture, keys, rope, values["head_dim"])
    if source.architecture in _SEVERAL_ROPES:
        local = float(keys.take("rope.freq_base_swa", 10000.0))
        sliding = {"rope_type": "default", "rope_theta": local}
        return {"rope_parameters": {"full_attention": rope, "sliding_attention": sliding}}
    found: dict[str, Any] = {"rope_parameters": rope}
    if "partial_rotary_factor" in rope:
        found["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if source.architecture == "phi3" and "original_max_position_embeddings" in rope:
        found["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    return found


def _refuse_unread(architecture: str, keys: Keys, rope: dict[str, Any], width: int) -> None:
    """What a config can say, but the family's code does not read."""
    if "partial_rotary_factor" in rope and architecture not in _PARTIAL_ROPE:
        rotated = keys.get("rope.dimension_count")
        raise FailedPrecondition(
            f"rope.dimension_count {rotated} of heads of {width} is not served for {architecture}"
        )
    if (kind := rope["rope_type"]) not in _ROPE_TYPES.get(architecture, {kind}):
        raise FailedPrecondition(f"rope.scaling {kind} is not served for {architecture}")


def _of_family(
    architecture: str, keys: Keys, values: dict[str, Any], shapes: dict[str, Any]
) -> dict[str, Any]:
    """What no key says of a family, and llama.cpp derives from its name or size."""
    if architecture in ("gemma2", "gemma3"):
        layers = values["num_hidden_layers"]
        largest = layers == {"gemma2": 46, "gemma3": 62}[architecture]
        each = values["hidden_size"] // values["num_attention_heads"]
        found: dict[str, Any] = {"query_pre_attn_scalar": each if largest else values["head_dim"]}
        pattern = keys.take("attention.sliding_window_pattern")
        if pattern is not None:
            found["layer_types"] = _layer_types(pattern, layers)
        return found
    if architecture == "stablelm" and "use_parallel_residual" in keys:
        return {"use_parallel_residual": bool(keys.take("use_parallel_residual"))}
    if architecture == "falcon":
        many = "blk.0.attn_norm_2.weight" in shapes  # of the 40B model's kind
        kv = values["num_key_value_heads"]
        return {
            "new_decoder_architecture": many,
            "num_kv_heads": kv,
            "multi_query": kv == 1,
            "ffn_hidden_size": values.get("intermediate_size"),
        }
    if architecture == "gpt2":
        positions = keys.take("context_length", 1024)
        return {"n_inner": keys.take("feed_forward_length"), "n_positions": positions}
    return {}


def _layer_types(pattern: Any, layers: int) -> list[str]:
    """pattern: whether each layer slides, or the period of which the last layer does not."""
    slides = pattern
    if not isinstance(pattern, tuple):
        every = int(pattern)
        slides = [
            bool((layer + 1) % every) if every > 1 else pattern is True for layer in range(layers)
        ]
    return ["sliding_attention" if sliding else "full_attention" for sliding in slides]
