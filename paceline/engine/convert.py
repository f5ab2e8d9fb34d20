"""GGUF files into folders that load quickly: bf16 safetensors, tokenizer, chat template."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from paceline.scratch import scratch_folder

Say = Callable[[str], None]


def convert_gguf(gguf: Path, folder: Path, say: Say = lambda _: None) -> None:
    """Write `folder` from a GGUF file; it appears whole or not at all.

    `say` is told each phase. Takes a minute or so, and memory for the weights in float32.
    """
    with scratch_folder(folder) as work:
        say("reading weights")
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
        say("writing weights")
        _write_model(model, gguf, work)
        say("reading tokenizer")
        _write_tokenizer(gguf, work)
        for path in (work, *work.iterdir()):  # a temporary folder is closed to others
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)


def _write_model(model: PreTrainedModel, gguf: Path, folder: Path) -> None:
    """Weights and config. save_pretrained refuses a model that came from a quantized file."""
    del model.config.quantization_config
    tied = not any(tensor.name == "output.weight" for tensor in GGUFReader(gguf).tensors)
    model.config.tie_word_embeddings = tied
    model.config.dtype = "bfloat16"
    weights = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)


def _write_tokenizer(gguf: Path, folder: Path) -> None:
    """tokenizer.json, the chat template, and every token that ends a turn."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    ends = [tokenizer.eos_token_id]
    ends += [
        token
        for name in ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>")
        if (token := tokenizer.get_added_vocab().get(name)) is not None
    ]
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": sorted(set(ends))}, indent=2)
    )
