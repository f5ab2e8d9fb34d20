"""What runs on a GPU: kernels with fixed tiles and a fixed order of sums."""

import functools
import importlib.util

import torch

DTYPES = {torch.bfloat16, torch.float32}


def has_kernels(device_type: str, dtype: torch.dtype) -> bool:
    """Whether they run there: on a GPU whose torch has Triton, in the dtypes that they know."""
    return device_type == "cuda" and dtype in DTYPES and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
