"""Tiny random models of real architectures, with a tokenizer, made on the spot as folders."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

BYTES = 256
BOS, EOS = BYTES, BYTES + 1
VOCABULARY = BYTES + 2

CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "mistral": (MistralConfig, {"sliding_window": 24}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 16}),
    "gemma": (GemmaConfig, {"head_dim": 16}),
    "gemma3": (Gemma3TextConfig, {"head_dim": 16, "sliding_window": 24}),
}
TEMPLATE = (
    "{% for message in messages %}<|bos|>{{ message.role }}\n{{ message.content }}<|eos|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|bos|>assistant\n{% endif %}"
)


def tiny_model(
    folder: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    dtype: str = "float64",
    heads: tuple[int, int] = (4, 2),
    width: int = 64,
    **more: Any,
) -> Path:
    """Write a random model of `family`: 2 layers, a byte vocabulary. heads: with KV.

    more: of its config.
    """
    kind, special = CONFIGS[family]
    config = kind(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        max_position_embeddings=1024,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=None,
        tie_word_embeddings=False,
        # Large enough for outputs that vary instead of one token over and over.
        **({"num_hidden_layers": 2, "initializer_range": 0.2} | special | more),
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    save_model(model, folder)
    return folder


def perturbed(source: Path, folder: Path, noise: float, *, seed: int = 1) -> Path:
    """A copy with noise added to its weights, in units of their own spread: 0 agrees always."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            change = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            parameter.add_(noise * parameter.std(correction=0) * change)
    save_model(model, folder)
    return folder


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write it with the tokenizer of bytes."""
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS]}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    specials = {"bos_token": "<|bos|>", "eos_token": {"__type": "AddedToken", "content": "<|eos|>"}}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**specials, "chat_template": TEMPLATE})
    )


def byte_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes and two specials."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: index for index, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|bos|>", "<|eos|>"])
    return tokenizer
