"""step.c, compiled, and the structures that it takes."""

import ctypes
import functools
from ctypes import POINTER, Structure, c_float, c_ssize_t, c_void_p

from paceline.engine.compiling import WRITTEN_FOR, compiled, key_of, this_machine
from paceline.errors import FailedPrecondition

FLAGS = (
    *("-std=c11", "-O3", "-fPIC", "-fopenmp", "-mfma", "-mf16c"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mavx512bf16"),
)
LINKS = ("-fopenmp", "-lm")
SOURCE = (__package__, "step.c", FLAGS, LINKS)
"""As `compiled` takes it."""


class StepLinear(Structure):
    """See quantized.h."""

    _fields_ = (
        ("pieces", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_ssize_t),
        ("inputs", c_ssize_t),
    )


class StepLayer(Structure):
    """See step.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("input_norm", "query_norm", "key_norm", "mlp_norm")),
        *((name, StepLinear) for name in ("qkv", "out", "gate_up", "down")),
        ("window", c_ssize_t),
    )


class StepModel(Structure):
    """See step.c."""

    _fields_ = (
        *((name, c_ssize_t) for name in ("width", "heads", "kv_heads", "head_dim", "mlp_width")),
        ("layers", c_ssize_t),
        ("epsilon", c_float),
        ("rope_scaling", c_float),
        *((name, c_void_p) for name in ("embeddings", "norm", "inverse_frequencies")),
        ("head", StepLinear),
        ("layer", POINTER(StepLayer)),
    )


class StepBatch(Structure):
    """See step.c."""

    _fields_ = (
        *((name, c_ssize_t) for name in ("rows", "wanted", "most_pages")),
        *((name, c_void_p) for name in ("tokens", "positions", "sessions", "wanted_rows")),
        *((name, c_void_p) for name in ("pages", "kv", "workspace", "logits")),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """step.c. Raises FailedPrecondition where this CPU or machine has not what it needs."""
    here = this_machine()
    if here != WRITTEN_FOR:
        raise FailedPrecondition(f"it is written for {WRITTEN_FOR}, and this is {here}")
    found = compiled(*SOURCE)
    if not found.runs_here():
        raise FailedPrecondition("this CPU lacks AVX-512 with VNNI and bfloat16")
    found.step.argtypes = [POINTER(StepModel), POINTER(StepBatch), ctypes.c_int]
    found.workspace_bytes.argtypes = [POINTER(StepModel), c_ssize_t]
    found.workspace_bytes.restype = c_ssize_t
    return found


def release() -> str:
    """Another one when step.c changes."""
    return key_of(*SOURCE)
