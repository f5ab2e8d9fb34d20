"""step.c, compiled for what the CPU has, and the structures that it takes."""

import ctypes
import functools
from ctypes import POINTER, Structure, c_float, c_ssize_t, c_void_p

from paceline.engine.compiling import WRITTEN_FOR, CompiledForm, compiled, key_of, this_machine
from paceline.errors import FailedPrecondition

_LINKS = ("-fopenmp", "-lm")

AVX512 = CompiledForm(
    __package__,
    "step.c",
    "AVX-512 with VNNI and bfloat16",
    (
        *("-mfma", "-mf16c", "-mavx512f", "-mavx512bw"),
        *("-mavx512vl", "-mavx512vnni", "-mavx512bf16"),
    ),
    frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "fma", "f16c"}),
    _LINKS,
)
AVX2 = CompiledForm(
    __package__,
    "step.c",
    "AVX2 with FMA and F16C",
    ("-mfma", "-mf16c", "-mavx2"),
    frozenset({"avx2", "fma", "f16c"}),
    _LINKS,
)
FORMS = (AVX512, AVX2)
"""The quickest first. Draft files are the same for all, bits of rows are not."""


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


def form() -> CompiledForm:
    """The first one that this CPU can run. Raises FailedPrecondition where that is none."""
    here = this_machine()
    if here != WRITTEN_FOR:
        raise FailedPrecondition(f"it is written for {WRITTEN_FOR}, and this is {here}")
    # Asked before any of it is loaded: a compiler may use what a form needs wherever it likes.
    for one in FORMS:
        if one.runs_here:
            return one
    raise FailedPrecondition(f"this CPU lacks {FORMS[-1].name}")


def library() -> ctypes.CDLL:
    """step.c. Raises FailedPrecondition where this CPU or machine has not what it needs."""
    return _library(form())


@functools.cache
def _library(form: CompiledForm) -> ctypes.CDLL:
    found = compiled(*form.compiled_from)
    found.step.argtypes = [POINTER(StepModel), POINTER(StepBatch), ctypes.c_int]
    found.workspace_bytes.argtypes = [POINTER(StepModel), c_ssize_t]
    found.workspace_bytes.restype = c_ssize_t
    return found


def release() -> str:
    """Another one when step.c changes, and for another form of it."""
    return key_of(*form().compiled_from)
