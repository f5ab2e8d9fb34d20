"""What is made of a draft's folder once: quantized weights in one file, and what they are of.

A safetensors file, mapped into memory; its metadata have all else. torch is not needed to read it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.errors import FailedPrecondition, in_a_line
from paceline.protocol.sampling import Sampling

FORMAT = 3
"""Raised when the contents of the file or of its notes change: those of others are made anew."""
KEY = "paceline"
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "F16": np.float16, "F32": np.float32}


@dataclass(frozen=True, slots=True)
class DraftShape:
    """A decoder of Llama's family. windows: of sliding attention by layer, 0 for none."""

    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    windows: tuple[int, ...]
    rope_scaling: float


@dataclass(frozen=True, slots=True)
class DraftFacts:
    """What ModelInfo says of the model, as its folder's files have it."""

    weights_hash: str
    vocabulary_hash: str
    vocabulary_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    default_sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sampling(self) -> Sampling:
        """As a request would have it."""
        return Sampling(**self.default_sampling)


@dataclass(frozen=True, slots=True)
class PreparedDraft:
    """The file, read. tensors: mapped from it, by name."""

    shape: DraftShape
    facts: DraftFacts
    tensors: Mapping[str, NDArray[Any]]


def metadata(shape: DraftShape, facts: DraftFacts) -> dict[str, str]:
    """What the file says besides tensors."""
    return {KEY: json.dumps({"format": FORMAT, "shape": asdict(shape), "facts": asdict(facts)})}


def read_prepared(path: Path) -> PreparedDraft:
    """Read a file; FailedPrecondition where it is none of these."""
    try:
        said, tensors = _mapped(path)
        shape = DraftShape(**{**said["shape"], "windows": tuple(said["shape"]["windows"])})
        facts = {**said["facts"], "eos_token_ids": tuple(said["facts"]["eos_token_ids"])}
        return PreparedDraft(shape, DraftFacts(**facts), tensors)
    except Exception as error:
        reason = in_a_line(error, kind=False)
        raise FailedPrecondition(f"{path} cannot be read: {reason}; delete it") from error


def _mapped(path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    """What the file says, and its tensors; safetensors itself copies what numpy is to have.

    Eight bytes with the header's length, the header in JSON, then what its offsets count from.
    """
    contents = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(contents[:8].tobytes(), "little")
    header = json.loads(contents[8:start].tobytes())
    said = json.loads(header.pop("__metadata__")[KEY])
    return said, {name: _tensor(contents[start:], one) for name, one in header.items()}


def _tensor(data: NDArray[np.uint8], said: Mapping[str, Any]) -> NDArray[Any]:
    begin, end = said["data_offsets"]
    return data[begin:end].view(_DTYPES[said["dtype"]]).reshape(said["shape"])
