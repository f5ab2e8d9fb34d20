"""python -m benchmarks.mismatched FOLDER: a draft that can only be wrong.

A model with the tokenizer of another one and random weights: right vocabulary, useless draft
tokens. For seeing what speculation with a bad draft costs, and that `paceline evaluate` says not
to use it.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from paceline.catalog import DEFAULT_DRAFT
from paceline.engine.torch.model_folder import resolve_model

LAYERS = 2
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def mismatched(source: Path, folder: Path, *, layers: int = LAYERS, seed: int = 0) -> Path:
    """Write a random model of the family, width and vocabulary of `source`'s, in bf16."""
    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers = layers
    config.layer_types = None
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        type(config)(**config.to_diff_dict()), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    return folder


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--like", default=DEFAULT_DRAFT, help="model whose vocabulary it has")
    options = parser.parse_args()
    print(mismatched(resolve_model(options.like), options.folder))


if __name__ == "__main__":
    main()
