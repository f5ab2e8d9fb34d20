"""Tiny random models that also see, made on the spot: their text part is what tests ask for."""

from pathlib import Path
from typing import Any

import torch

from tests.tiny_architectures import tiny_architecture
from tests.tiny_models import BOS, EOS, save_model
from tests.vllm.targets import HEADS

VOCABULARY = 264
IMAGE = 260
TEXT = {
    "vocab_size": VOCABULARY,
    "num_attention_heads": HEADS[0],
    "num_key_value_heads": HEADS[1],
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}
"""Sections of half a head, for time, height and width."""
ROPES = {name: {"rope_parameters": MROPE} for name in ("paddleocr_vl", "qwen2_vl")}


def seeing_model(folder: Path, model_type: str) -> Path:
    """Write one in float32, whole: with the parts that see. Heads are of the width vLLM has."""
    text = {**TEXT, **ROPES.get(model_type, {})}
    more: dict[str, Any] = {"text_config": text, "image_token_id": IMAGE, "pad_token_id": 0}
    model = tiny_architecture(model_type, **more).float()
    with torch.no_grad():  # else the embedding of a token decides which one comes next
        for name, parameter in model.named_parameters():
            if ".layers." in name and parameter.dim() > 1:
                parameter.mul_(2)
    save_model(model, folder)
    return folder
