"""What of config.json cannot be, as it contradicts itself, the tokenizer or the weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from paceline.errors import FailedPrecondition
from paceline.model_files.json_files import AnyObject, TokenizerVocabulary, read_json
from paceline.model_files.tensor_shapes import DecoderTensors, Shapes, Tensor, decoder_of

_WIDTH_OF_HEADS = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "olmo", "olmo2", "olmo3", "granite"),
    *("smollm3", "starcoder2", "stablelm", "phi", "phi3", "cohere", "cohere2", "internlm3"),
}
"""Families whose head_dim is hidden_size / num_attention_heads where it is not stated."""
_ORDINARY = _WIDTH_OF_HEADS | {
    *("qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "arcee", "exaone4", "helium"),
    *("ministral", "ministral3", "seed_oss"),
}
"""Families whose layers have shapes that these fields alone give."""
_MORE_ROWS = {"mllama", "mllama_text_model", "moshi"}
"""Families that embed more ids than vocab_size says."""
_OTHER_WIDTH = ("word_embed_proj_dim", "embedding_size")
"""Fields that say an embedding's width where it is not hidden_size."""
_NEURONS = ("mlp.up_proj.weight", "mlp.gate_proj.weight")
_NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
}
"""How families call a field."""


class DoesNotFit(FailedPrecondition):
    """Files that are whole, and not of one model."""


class Field(NamedTuple):
    """A field that states a whole number. name: as the file has it."""

    name: str
    value: int


class _Fields:
    """The fields of config.json that say how the decoder is made."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Those of the text part, of a model that has others too."""
        part = config.get("text_config")
        self.is_part = isinstance(part, dict)
        self.stated: Mapping[str, Any] = part if isinstance(part, dict) else config
        self.family = str(self.stated.get("model_type", config.get("model_type")))

    def get(self, name: str) -> Field | None:
        """A field that states one whole number, whatever this family calls it; else None."""
        for one in _NAMES.get(name, (name,)):
            value = self.stated.get(one)
            if isinstance(value, int) and not isinstance(value, bool):
                return Field(f"text_config.{one}" if self.is_part else one, value)
        return None


def check_config_fits(folder: Path, shapes: Shapes) -> None:
    """Raise DoesNotFit naming a field of config.json, its value and what it must be.

    shapes: of the weights, as far as they are here. What a family may state otherwise is left to
    who loads it.
    """
    path = folder / "config.json"
    fields = _Fields(read_json(path, AnyObject).root)
    refuse(path, _contradictions(folder, fields, decoder_of(shapes)))


Contradictions = Iterator[tuple[Field, str]]
"""Fields that cannot be, and what each must be."""


def refuse(path: Path, contradictions: Contradictions) -> None:
    """Raise DoesNotFit for the first one, of the file."""
    for field, limit in contradictions:
        said = f"{field.name} is {field.value}; it must be {limit}"
        raise DoesNotFit(f"{path} does not fit: {said}")


def _contradictions(
    folder: Path, fields: _Fields, decoder: DecoderTensors | None
) -> Contradictions:
    yield from _of_heads(fields)
    if decoder is not None:
        yield from _of_embedding(fields, decoder.embedding)
        yield from _of_depth(fields, decoder)
        if fields.family in _ORDINARY:
            yield from _of_layers(fields, decoder)
            yield from _of_output(fields, decoder)
    yield from _of_tokens(folder, fields)


def _of_heads(fields: _Fields) -> Contradictions:
    heads, groups = fields.get("num_attention_heads"), fields.get("num_key_value_heads")
    if heads and groups and heads.value % max(1, groups.value):
        yield groups, f"a divisor of {heads.name}, {heads.value}"
    width = fields.get("hidden_size")
    is_shared = fields.family in _WIDTH_OF_HEADS and fields.stated.get("head_dim") is None
    if is_shared and heads and width and width.value % max(1, heads.value):
        yield width, f"a multiple of {heads.name}, {heads.value}, where head_dim is not given"


def _of_embedding(fields: _Fields, embedding: Tensor) -> Contradictions:
    size, width = fields.get("vocab_size"), fields.get("hidden_size")
    rows, columns = embedding.shape
    if size and size.value != rows and fields.family not in _MORE_ROWS:
        yield size, f"{rows}, as {embedding.seen}"
    other = any(name in fields.stated for name in _OTHER_WIDTH)
    if width and width.value != columns and not other:
        yield width, f"{columns}, as {embedding.seen}"


def _of_depth(fields: _Fields, decoder: DecoderTensors) -> Contradictions:
    depth = fields.get("num_hidden_layers")
    if depth and decoder.layers and depth.value != decoder.layers:
        yield depth, f"{decoder.layers}, as there are weights of so many layers"


def _of_layers(fields: _Fields, decoder: DecoderTensors) -> Contradictions:
    neurons = fields.get("intermediate_size")
    head = _head_width(fields)
    for tensor in decoder.in_layers:
        rows = tensor.shape[0] if tensor.shape else 0
        if tensor.part == "self_attn.q_proj.weight":
            yield from _of_projection(fields.get("num_attention_heads"), head, rows, tensor)
        elif tensor.part == "self_attn.k_proj.weight":
            yield from _of_projection(fields.get("num_key_value_heads"), head, rows, tensor)
        elif tensor.part in _NEURONS and neurons and neurons.value != rows:
            yield neurons, f"{rows}, as {tensor.seen}"


def _of_projection(
    heads: Field | None, width: int | None, rows: int, tensor: Tensor
) -> Contradictions:
    if heads and width and heads.value * width != rows:
        many = f"{rows // width}" if rows % width == 0 else f"{rows} / {width}"
        yield heads, f"{many} with heads of {width}, as {tensor.seen}"


def _head_width(fields: _Fields) -> int | None:
    stated = fields.get("head_dim")
    if stated or fields.family not in _WIDTH_OF_HEADS:
        return stated.value if stated else None
    width, heads = fields.get("hidden_size"), fields.get("num_attention_heads")
    return width.value // heads.value if width and heads else None


def _of_output(fields: _Fields, decoder: DecoderTensors) -> Contradictions:
    """A head of its own must have come, or its weights would be random."""
    size = fields.get("vocab_size")
    for tensor in decoder.heads:
        if size and tensor.shape[0] != size.value:
            yield size, f"{tensor.shape[0]}, as {tensor.seen}"
    tied = fields.stated.get("tie_word_embeddings")
    if tied is False and not fields.is_part and not decoder.heads:
        yield Field("tie_word_embeddings", False), "True, as there is no lm_head.weight"


def _of_tokens(folder: Path, fields: _Fields) -> Contradictions:
    size, path = fields.get("vocab_size"), folder / "tokenizer.json"
    if size and path.exists():
        highest = read_json(path, TokenizerVocabulary).highest_id()
        if highest >= size.value:
            yield size, f"at least {highest + 1}, as tokenizer.json has an id {highest}"
