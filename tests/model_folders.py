"""Model folders of some bytes: whole, but of no use to compute with; no torch."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 8,
    "hidden_size": 2,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
}


def model_folder_of(folder: Path, **config: Any) -> Path:
    """A whole folder. config: changes its fields; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: value for name, value in {**CONFIG, **config}.items() if value is not None}
    write_json(folder / "config.json", fields)
    write_json(folder / "tokenizer.json", {"model": {"type": "BPE"}})
    write_json(folder / "generation_config.json", {"eos_token_id": [7]})
    write_weights(folder / "model.safetensors")
    return folder


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def write_weights(path: Path, *names: str) -> None:
    """A safetensors file of four bytes a tensor."""
    names = names or ("model.embed_tokens.weight",)
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            **{
                name: {"dtype": "BF16", "shape": [2], "data_offsets": [4 * at, 4 * at + 4]}
                for at, name in enumerate(names)
            },
        }
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * len(names)))


def write_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of zeros in BF16."""
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(at))


def write_shards(folder: Path, count: int) -> list[Path]:
    """Weights in so many shards, with their index, instead of the one file."""
    (folder / "model.safetensors").unlink()
    paths = [folder / f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    for at, path in enumerate(paths):
        write_weights(path, f"model.layers.{at}.weight")
    weight_map = {f"model.layers.{at}.weight": path.name for at, path in enumerate(paths)}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return paths
