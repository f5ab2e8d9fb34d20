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


@functools.cache
def library() -> ctypes.CDLL | None:
    """product.c; None where this CPU or machine has not what it needs."""
    capabilities = torch.cpu.get_capabilities()
    if not all(capabilities.get(name) for name in NEEDED):
        return None
    try:
        found = compiled(__package__, "product.c", FLAGS)
    except FailedPrecondition as error:
        _log.info("few rows run in oneDNN", reason=str(error))
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
    found.product.argtypes = [*[pointer] * 5, *[size] * 4, ctypes.c_int]
    return found
