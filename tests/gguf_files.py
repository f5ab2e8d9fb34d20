"""GGUF files of tiny models, written as llama.cpp's convert_hf_to_gguf.py would."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

BYTES = {  # GPT-2's letters for bytes
    byte: chr(byte if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174 else 256 + rank)
    for rank, byte in enumerate(
        sorted(range(256), key=lambda b: (33 <= b <= 126 or 161 <= b <= 172 or b >= 174, b))
    )
}
Fill = Callable[[gguf.GGUFWriter], object]


def small_gguf(path: Path, *, split: int = 0, kind: str = "", architecture: str = "llama") -> Path:
    """A file of one tensor, quantized, and some metadata of each sort."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_token_list(["a", "bc", ""])
    writer.add_token_types([1, 1, 3])
    writer.add_bool("llama.flag", val=True)
    writer.add_float32("llama.factor", 0.5)
    if kind:
        writer.add_type(kind)
    if split:
        writer.add_uint16("split.count", split)
    data = gguf.quants.quantize(np.ones((3, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    write(writer)
    return path


def tiny_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model in float64 whose weights are random numbers that bf16 holds."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * 0.3
            parameter.copy_((noise if parameter.dim() > 1 else 1 + noise).bfloat16())
    return model


def letters(text: str) -> str:
    """A text in GPT-2's letters."""
    return "".join(BYTES[byte] for byte in text.encode())


def byte_level_vocabulary(
    writer: gguf.GGUFWriter,
    merges: Iterable[str] = (),
    special: dict[str, int] | None = None,
    pre: str | None = "qwen2",
) -> list[str]:
    """All bytes, what `merges` ("a b") make, and special tokens of the types given."""
    merges = [" ".join(letters(part) for part in merge.split("|")) for merge in merges]
    tokens = [BYTES[byte] for byte in range(256)]
    tokens += [merge.replace(" ", "") for merge in merges]
    types = [1] * len(tokens) + list((special or {}).values())
    tokens += special or {}
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges(merges)
    return tokens


def write_gguf(path: Path, architecture: str, model: PreTrainedModel, fill: Fill) -> Path:
    """Write `model`; `fill` adds what metadata and tensors the family has besides the usual."""
    writer = gguf.GGUFWriter(path, architecture)
    _add_usual(writer, model.config)
    fill(writer)
    add_weights(writer, architecture, model)
    write(writer)
    return path


def write(writer: gguf.GGUFWriter) -> None:
    """Put the file on disk."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_usual(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    if config.num_key_value_heads is not None:
        writer.add_head_count_kv(config.num_key_value_heads)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    parameters = config.rope_parameters
    writer.add_rope_freq_base(parameters.get("full_attention", parameters)["rope_theta"])


def add_weights(writer: gguf.GGUFWriter, architecture: str, model: PreTrainedModel) -> None:
    """All weights in float32 under GGUF's names."""
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        weight = _changed(architecture, model.config, name, tensor.float())
        if name.endswith("gate_up_proj"):
            half = weight.shape[1] // 2
            layer = name.split(".")[2]
            for part, piece in (("gate", weight[:, :half]), ("up", weight[:, half:])):
                writer.add_tensor(f"blk.{layer}.ffn_{part}_exps.weight", piece.contiguous().numpy())
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        if found.endswith("_exps"):
            found += ".weight"
        writer.add_tensor(found, weight.contiguous().numpy())


def _changed(architecture: str, config: Any, name: str, weight: torch.Tensor) -> torch.Tensor:
    """What converting does to a tensor."""
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads
        if "k_proj" in name:
            heads = config.num_key_value_heads or heads
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)
    if architecture in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        return weight + 1
    if name.endswith("shared_expert_gate.weight"):
        return weight[0]
    return weight
