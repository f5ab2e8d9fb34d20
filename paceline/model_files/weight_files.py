"""The weights of a model folder: all there, whole, and safetensors."""

import re
import struct
from pathlib import Path

from pydantic import BaseModel, RootModel, ValidationError

from paceline.errors import FailedPrecondition, listed
from paceline.model_files.json_files import WeightIndex, read_json, refuse_pointer
from paceline.model_files.tensor_shapes import Shapes

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_MOST_HEADER = 100_000_000
"""Bytes; safetensors reads no longer ones."""
_OTHER_FORMATS = {
    "pytorch_model.bin": "PyTorch's pickles",
    "pytorch_model.bin.index.json": "PyTorch's pickles",
    "tf_model.h5": "TensorFlow's format",
    "flax_model.msgpack": "Flax's format",
}


class _Tensor(BaseModel):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Header(RootModel[dict[str, _Tensor | dict[str, str]]]):
    """By name of the tensor; __metadata__ is a name too."""


def check_weight_files(folder: Path) -> Shapes:
    """The shapes of all tensors.

    Raises FailedPrecondition naming weights that are missing, truncated or of another format.
    """
    if (folder / WEIGHTS).exists():
        return check_safetensors(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _check_shards(folder)
    if what := without_weights({one.name for one in folder.iterdir()}, str(folder)):
        raise FailedPrecondition(f"{folder} {what}")
    return {}


def check_safetensors(path: Path) -> Shapes:
    """Compare what the header promises with the size of the file; returns the shapes it names."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(200)
        refuse_pointer(path, head)
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
        if not 2 <= length <= _MOST_HEADER:
            raise FailedPrecondition(f"{path} is no safetensors file; fetch it again")
        file.seek(8)
        header = file.read(length)
    tensors = _tensors(path, header) if len(header) == length else {}
    end = max((one.data_offsets[1] for one in tensors.values()), default=0)
    promised = 8 + length + end
    if size != promised:
        what = "truncated" if size < promised else "longer than its header says"
        raise FailedPrecondition(
            f"{path} is {what}: it has {size} bytes of {promised}; fetch it again"
        )
    return {name: tuple(one.shape) for name, one in tensors.items()}


def _tensors(path: Path, header: bytes) -> dict[str, _Tensor]:
    try:
        named = _Header.model_validate_json(header).root.items()
    except ValidationError as error:
        raise FailedPrecondition(f"{path} has a damaged header; fetch it again") from error
    return {name: one for name, one in named if isinstance(one, _Tensor)}


def _check_shards(folder: Path) -> Shapes:
    names = set(read_json(folder / INDEX, WeightIndex).weight_map.values())
    _refuse_missing(folder, {name for name in names if not (folder / name).is_file()}, INDEX)
    shapes = [check_safetensors(folder / name) for name in sorted(names)]
    return dict(pair for one in shapes for pair in one.items())


def _refuse_missing(folder: Path, missing: set[str], source: str) -> None:
    if missing:
        raise FailedPrecondition(
            f"{folder} lacks weights that {source} names: {listed(missing)}; fetch what is missing"
        )


def is_weights(name: str) -> bool:
    """Whether a file of that name is read as weights, or says where they are."""
    return name in {WEIGHTS, INDEX} or _SHARD.fullmatch(name) is not None


def without_weights(names: set[str], model: str) -> str:
    """What is there instead of weights, and what to do; "" where they are there.

    names: of all files. model: its folder or hub id.
    """
    shards = _all_shards(names)
    if WEIGHTS in names or (shards and names >= {*shards, INDEX}):
        return ""
    if shards:
        return f"lacks {listed({*shards, INDEX} - names)}; fetch what is missing"
    if formats := [what for name, what in _OTHER_FORMATS.items() if name in names]:
        return f"has its weights in {formats[0]} only, {_convert(model)}"
    others = {name for name in names if name.endswith(".safetensors")}
    seen = f" ({listed(others)} is no name that is read)" if others else ""
    return f"has no weights: there is no {WEIGHTS} and no {INDEX}{seen}; fetch them"


def _all_shards(names: set[str]) -> set[str]:
    """The names of all shards, when there is any of them."""
    for match in filter(None, map(_SHARD.fullmatch, names)):
        width, total = len(match[1]), match[2]
        return {f"model-{n:0{width}}-of-{total}.safetensors" for n in range(1, int(total) + 1)}
    return set()


def _convert(model: str) -> str:
    """What to run, which writes safetensors into a folder of the current one."""
    load = f"AutoModelForCausalLM.from_pretrained('{model}')"
    save = f"save_pretrained('{Path(model).name}-safetensors')"
    code = f"from transformers import AutoModelForCausalLM; {load}.{save}"
    return (
        "which are not read; take a revision with safetensors, or convert it where you trust it: "
        f'python -c "{code}", then copy the tokenizer\'s files'
    )
