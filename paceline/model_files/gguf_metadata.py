"""Whether a GGUF file's metadata fits its tensors; values alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paceline.model_files.contradictions import Contradictions, Field, refuse
from paceline.model_files.tensor_shapes import Shapes

_EMBEDDING = "token_embd.weight"
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_ORDINARY = {
    *("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "starcoder2", "granite", "olmo2"),
}
"""Architectures whose layers have shapes that these keys alone give."""


class Length(int):
    """The length of an array, in its place."""


def check_metadata_fits(path: Path, metadata: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise DoesNotFit naming a key, its value and what it must be.

    shapes: of all parts' tensors, the width of a row first, as GGUF has them.
    """
    refuse(path, _contradictions(_Keys(metadata), shapes))


class _Keys:
    """The keys of an architecture."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata
        self.architecture = str(metadata.get("general.architecture"))

    def get(self, name: str) -> Field | None:
        """A key that states one whole number; else None."""
        return self._stated(f"{self.architecture}.{name}")

    def tokens(self) -> Field | None:
        """How many tokens the vocabulary has."""
        found = self._metadata.get("tokenizer.ggml.tokens")
        if not isinstance(found, Length):
            return None
        return Field("the length of tokenizer.ggml.tokens", found)

    def _stated(self, key: str) -> Field | None:
        value = self._metadata.get(key)
        if not isinstance(value, int) or isinstance(value, bool | Length):
            return None
        return Field(key, value)


def _contradictions(keys: _Keys, shapes: Shapes) -> Contradictions:
    yield from _of_heads(keys)
    embedding = shapes.get(_EMBEDDING, ())
    if len(embedding) == 2:
        yield from _of_embedding(keys, embedding)
    yield from _of_blocks(keys, shapes)


def _of_heads(keys: _Keys) -> Contradictions:
    heads, groups = keys.get("attention.head_count"), keys.get("attention.head_count_kv")
    if heads and groups and groups.value and heads.value % groups.value:
        yield groups, f"a divisor of {heads.name}, {heads.value}"


def _of_embedding(keys: _Keys, shape: tuple[int, ...]) -> Contradictions:
    width, rows = shape
    seen = f"{_EMBEDDING} has {rows} rows of {width}"
    stated, tokens = keys.get("embedding_length"), keys.tokens()
    if stated and stated.value != width:
        yield stated, f"{width}, as {seen}"
    if tokens and tokens.value > rows:
        yield tokens, f"at most {rows}, as {seen}"


def _of_blocks(keys: _Keys, shapes: Shapes) -> Contradictions:
    found = [(match, shape) for name, shape in shapes.items() if (match := _BLOCK.match(name))]
    depth, here = keys.get("block_count"), 1 + max((int(one[1]) for one, _ in found), default=-1)
    if depth and here and depth.value != here and not keys.get("nextn_predict_layers"):
        yield depth, f"{here}, as there are weights of so many layers"
    neurons = keys.get("feed_forward_length")
    for match, shape in found:
        is_of_them = match[2] == "ffn_up.weight" and len(shape) == 2
        if keys.architecture in _ORDINARY and is_of_them and neurons and neurons.value != shape[1]:
            yield neurons, f"{shape[1]}, as {match[0]} has {shape[1]} rows"
