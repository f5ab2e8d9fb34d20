"""The JSON files of a model folder: read quickly, with what is wrong in a line."""

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, RootModel, ValidationError

from paceline.errors import FailedPrecondition, shown
from paceline.limits import told

_LFS = b"version https://git-lfs"
_AGAIN = "fetch the file again"
_ALTERNATIVE = re.compile(r"int|bool|str|float|(list|dict)\[.*")
"""What pydantic names beside fields: which of several types was tried."""
Ids = int | list[int] | None
Whole = int | list[int] | None
"""One for all layers, or one for each."""


class _File(BaseModel):
    """What is checked of a file; all else may be there too."""

    model_config = ConfigDict(strict=True, protected_namespaces=())


class AnyObject(RootModel[dict[str, JsonValue]]):
    """A file that holds an object of whatever."""


class _Sizes(_File):
    """What says how a decoder is made. These have other names in some families."""

    vocab_size: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: Whole = None
    num_key_value_heads: Whole = None
    head_dim: Whole = None
    intermediate_size: Whole = None
    max_position_embeddings: int | None = None
    rms_norm_eps: float | None = None
    hidden_act: str | None = None
    sliding_window: Whole = None
    tie_word_embeddings: bool | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None


class Config(_Sizes):
    """config.json. text_config: of models that have other parts too."""

    model_type: str | None = None
    architectures: list[str] | None = None
    is_encoder_decoder: bool | None = False
    layer_types: list[str] | None = None
    quantization_config: dict[str, Any] | None = None
    eos_token_id: Ids = None
    text_config: _Sizes | None = None


class GenerationConfig(_File):
    """generation_config.json. A wrong value of sampling is no hindrance: it is left out."""

    eos_token_id: Ids = None


class _TokenizerModel(_File):
    type: str | None = None


class Tokenizer(_File):
    """tokenizer.json."""

    model: _TokenizerModel


class _Vocabulary(_File):
    vocab: dict[str, int] | list[JsonValue] | None = None


class TokenizerVocabulary(_File):
    """tokenizer.json with the tokens of its model: with their ids, or in their order."""

    model: _Vocabulary

    def highest_id(self) -> int:
        """Of what texts become. Tokens added to those may be placeholders that no text gives."""
        tokens = self.model.vocab or []
        return max(tokens.values()) if isinstance(tokens, dict) else len(tokens) - 1


class WeightIndex(_File):
    """model.safetensors.index.json. weight_map: from tensors to the files that hold them."""

    weight_map: dict[str, str]


File = TypeVar("File", bound=BaseModel)
_CHECKED: dict[str, type[BaseModel]] = {
    "generation_config.json": GenerationConfig,
    "tokenizer.json": Tokenizer,
    "tokenizer_config.json": AnyObject,
    "special_tokens_map.json": AnyObject,
}


def check_json_files(folder: Path) -> None:
    """Raise FailedPrecondition naming the first file beside config.json that cannot be read."""
    for name, kind in _CHECKED.items():
        if (folder / name).exists():
            read_json(folder / name, kind)


def read_json(path: Path, kind: type[File]) -> File:
    """What `path` holds; raises FailedPrecondition where that is not what `kind` says."""
    if path.is_dir():
        raise FailedPrecondition(f"{path} cannot be read: it is a folder, not a file")
    data = path.read_bytes()
    refuse_pointer(path, data)
    if not data.strip():
        raise FailedPrecondition(f"{path} cannot be read: it is empty; {_AGAIN}")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise FailedPrecondition(f"{path} cannot be read: {_reason(error)}") from error


def refuse_pointer(path: Path, data: bytes) -> None:
    """Refuse what Git LFS leaves in the place of a file that it has not fetched."""
    if data.startswith(_LFS):
        raise FailedPrecondition(
            f"{path} cannot be read: it is Git LFS's pointer to the file, not the file; "
            f"run: git -C {path.parent} lfs pull"
        )


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong."""
    problem = error.errors(include_url=False)[0]
    said = problem["msg"]
    if problem["type"] == "json_invalid":
        return f"{said[0].lower()}{said[1:]}; {_AGAIN}"
    names = [part for part in map(str, problem["loc"]) if not _ALTERNATIVE.fullmatch(part)]
    if not names:
        return "it must hold an object"
    if problem["type"] == "missing":
        return f"{'.'.join(names)} is missing"
    return f"{'.'.join(names)} is {shown(problem['input'])}{told(problem)}"
