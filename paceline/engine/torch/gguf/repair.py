"""Repairs folders that an older version converted: a new tokenizer and config, the same weights."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from paceline.catalog import write_version
from paceline.engine.torch.gguf.pretokenizers import BY_NAME
from paceline.engine.torch.gguf.tokenizer import byte_level
from paceline.engine.torch.gguf.vocabulary import GGUFVocabulary, TokenType


def repair_folder(folder: Path, pre: str) -> None:
    """Split text by the rules called `pre`, and name the architecture in config.json.

    For folders of catalog models, whose weights, vocabulary and merges are right.
    """
    tokenizer = folder / "tokenizer.json"
    _replace(tokenizer, _repaired(json.loads(tokenizer.read_text()), pre).to_str(pretty=True))
    config = AutoConfig.from_pretrained(folder)
    if not config.architectures:
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
        _replace(folder / "config.json", config.to_json_string())
    write_version(folder)


def _repaired(content: dict[str, Any], pre: str) -> Tokenizer:
    added = {token["id"]: token for token in content["added_tokens"]}
    by_id = {index: token for token, index in content["model"]["vocab"].items()}
    by_id |= {index: token["content"] for index, token in added.items()}
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(max(by_id) + 1)]
    vocabulary = GGUFVocabulary(tokens, [int(TokenType.NORMAL)] * len(tokens), {})
    merges = [tuple(merge) for merge in content["model"]["merges"]]
    tokenizer = byte_level(vocabulary, merges, BY_NAME[pre])
    tokenizer.add_tokens(
        [
            AddedToken(token["content"], special=token["special"], normalized=False)
            for index, token in sorted(added.items())
            if not vocabulary.is_padding(index)
        ]
    )
    made = json.loads(tokenizer.to_str())
    if (content.get("post_processor") or {}).get("type") == "TemplateProcessing":
        made["post_processor"] = content["post_processor"]
    return Tokenizer.from_str(json.dumps(made))


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; servers may be reading it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
