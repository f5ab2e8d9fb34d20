"""Products of compact weights in C, ready to be called."""

import ctypes
import functools
from dataclasses import dataclass

import structlog
import torch

from paceline.engine.compiling import Source, compiled
from paceline.errors import FailedPrecondition

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Form:
    """C of a product: its flags, what the CPU must have as torch names it, and what it packs to.

    The flags are of the object alone: a library made with -fopenmp brings threads of its own
    beside torch's. inputs: the type in which it wants room for its inputs.
    """

    source: str
    flags: tuple[str, ...]
    needed: tuple[str, ...]
    inputs: torch.dtype

    @property
    def compiled_from(self) -> Source:
        """As `compiled` takes it."""
        flags = ("-std=c11", "-O3", "-fPIC", "-fopenmp", *self.flags)
        return (__package__, self.source, flags, ())


LIKE_ONEDNN = Form(
    "product.c",
    ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16"),
    ("avx512_f", "avx512_bw", "avx512_vl", "avx512_bf16"),
    torch.bfloat16,
)
"""With the sums of oneDNN, for CPUs that have products of bf16."""
WIDE = Form("wide_product.c", ("-mavx2", "-mfma"), ("avx2", "fma3"), torch.float32)
"""In float32, for CPUs for which oneDNN does not pack bf16."""
FORMS = (LIKE_ONEDNN, WIDE)


class WeightLayout(ctypes.Structure):
    """A weight as layout.h has it: addresses, and sizes."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bytes", "tables", "starts", "rare", "whole")),
        *((name, ctypes.c_ssize_t) for name in ("outputs", "inputs", "chunk")),
    )


@functools.cache
def library(form: Form) -> ctypes.CDLL | None:
    """Its C; None where this CPU or machine has not what it needs."""
    capabilities = torch.cpu.get_capabilities()
    if not all(capabilities.get(name) for name in form.needed):
        return None
    try:
        found = compiled(*form.compiled_from)
    except FailedPrecondition as error:
        _log.info("weights are not compact", reason=str(error))
        return None
    weight, pointer = ctypes.POINTER(WeightLayout), ctypes.c_void_p
    found.product.argtypes = [weight, *[pointer] * 4, ctypes.c_ssize_t, ctypes.c_int]
    found.find_tables.argtypes = [pointer, weight, pointer, ctypes.c_int]
    found.pack.argtypes = [pointer, weight, ctypes.c_int]
    found.find_tables.restype = found.pack.restype = None
    return found
