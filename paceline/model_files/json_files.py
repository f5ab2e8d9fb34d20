"""The JSON files of a model folder: read quickly, with what is wrong in a line."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, RootModel, ValidationError

from paceline.errors import FailedPrecondition, shown
from paceline.limits import told

_LFS = b"version https://git-lfs"
_AGAIN = "fetch the file again"
Ids = int | list[int] | None


class _File(BaseModel):
    """What is checked of a file; all else may be there too."""

    model_config = ConfigDict(strict=True, protected_namespaces=())


class AnyObject(RootModel[dict[str, JsonValue]]):
    """A file that holds an object of whatever."""


class Config(_File):
    """config.json. Sizes have other names in some families, so they may be absent."""

    model_type: str | None = None
    architectures: list[str] | None = None
    is_encoder_decoder: bool | None = False
    layer_types: list[str] | None = None
    quantization_config: dict[str, Any] | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | list[int] | None = None
    num_key_value_heads: int | list[int] | None = None
    max_position_embeddings: int | None = None
    eos_token_id: Ids = None


class GenerationConfig(_File):
    """generation_config.json. A wrong value of sampling is no hindrance: it is left out."""

    eos_token_id: Ids = None


class _TokenizerModel(_File):
    type: str | None = None


class Tokenizer(_File):
    """tokenizer.json."""

    model: _TokenizerModel


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
    names = [str(part) for part in problem["loc"] if not str(part).startswith(("list[", "int"))]
    if not names:
        return "it must hold an object"
    if problem["type"] == "missing":
        return f"{'.'.join(names)} is missing"
    return f"{'.'.join(names)} is {shown(problem['input'])}{told(problem)}"
