"""What is made of a draft's folder once: quantized weights in one file, and what they are of.

A safetensors file, mapped into memory; its metadata have all else. Neither torch nor OpenVINO is
needed to read it.
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

FORMAT = 2
"""Raised when the contents of the file or of its notes change: those of others are made anew."""
KEY = "paceline"
GROUP = 64
"""Inputs that share a scale and a zero."""


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
    from safetensors import safe_open  # of the engine extra, needed here only

    try:
        with safe_open(path, "numpy") as opened:
            said = json.loads(opened.metadata()[KEY])
            tensors = {name: np.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118  the file is no mapping
        shape = DraftShape(**{**said["shape"], "windows": tuple(said["shape"]["windows"])})
        facts = {**said["facts"], "eos_token_ids": tuple(said["facts"]["eos_token_ids"])}
        return PreparedDraft(shape, DraftFacts(**facts), tensors)
    except Exception as error:
        reason = in_a_line(error, kind=False)
        raise FailedPrecondition(f"{path} cannot be read: {reason}; delete it") from error
