"""product.c, ready to be called."""

import ctypes
import functools

import structlog
import torch

from paceline.engine.compiling import compiled
from paceline.errors import FailedPrecondition

_log = structlog.get_logger(__name__)

FLAGS = (
    *("-std=c11", "-O3", "-fPIC", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16"),
)
"""Of the object alone: a library made with -fopenmp brings threads of its own beside torch's."""
NEEDED = ("avx512_f", "avx512_bw", "avx512_vl", "avx512_bf16")
"""What the CPU must have, as torch names it."""
SOURCE = (__package__, "product.c", FLAGS)
"""As `compiled` takes it."""


class WeightLayout(ctypes.Structure):
    """A weight as layout.h has it: addresses, and sizes."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bytes", "tables", "starts", "rare", "whole")),
        *((name, ctypes.c_ssize_t) for name in ("outputs", "inputs", "chunk")),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """product.c; None where this CPU or machine has not what it needs."""
    capabilities = torch.cpu.get_capabilities()
    if not all(capabilities.get(name) for name in NEEDED):
        return None
    try:
        found = compiled(*SOURCE)
    except FailedPrecondition as error:
        _log.info("weights are not compact", reason=str(error))
        return None
    weight, pointer = ctypes.POINTER(WeightLayout), ctypes.c_void_p
    found.product.argtypes = [weight, *[pointer] * 4, ctypes.c_ssize_t, ctypes.c_int]
    found.find_tables.argtypes = [pointer, weight, pointer, ctypes.c_int]
    found.pack.argtypes = [pointer, weight, ctypes.c_int]
    found.find_tables.restype = found.pack.restype = None
    return found
