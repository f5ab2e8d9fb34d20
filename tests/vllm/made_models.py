"""A LoRA adapter of tiny models, made on the spot, and a model of unknown weights."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RANK, ALPHA = 8, 16
ADAPTED = ("q_proj", "v_proj")
WEIGHTS = "model.safetensors"


def adapter(model: Path, folder: Path) -> Path:
    """An adapter as peft writes it, random and strong enough to change what is said."""
    generator = torch.Generator().manual_seed(4)
    tensors = {}
    for name, weight in load_file(model / WEIGHTS).items():
        if not any(one in name for one in ADAPTED) or weight.dim() != 2:
            continue
        base = f"base_model.model.{name.removesuffix('.weight')}"
        rows, columns = weight.shape
        tensors[f"{base}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator) * 0.1
        tensors[f"{base}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator) * 0.1
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(ADAPTED),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(model: Path, lora: Path, folder: Path) -> Path:
    """The model with the adapter in its weights."""
    shutil.copytree(model, folder)
    weights, parts = load_file(model / WEIGHTS), load_file(lora / "adapter_model.safetensors")
    for name in [one for one in parts if one.endswith("lora_A.weight")]:
        base = name.removesuffix("lora_A.weight")
        change = parts[f"{base}lora_B.weight"] @ parts[name] * (ALPHA / RANK)
        its = f"{base.removeprefix('base_model.model.')}weight"
        weights[its] = weights[its] + change.to(weights[its].dtype)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    return folder


def unknown_quantization(model: Path, folder: Path) -> Path:
    """The model, which says that it is quantized in a way that nobody knows."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "exl9"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
