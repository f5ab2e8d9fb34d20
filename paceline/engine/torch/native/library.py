"""The C of this package, ready to be called."""

import ctypes
import functools

import structlog

from paceline.engine.compiling import CompiledForm, compiled
from paceline.errors import FailedPrecondition

_log = structlog.get_logger(__name__)


LIKE_ONEDNN = CompiledForm(
    __package__,
    "product.c",
    "AVX-512 with bfloat16",
    ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16"),
    frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_bf16"}),
)
"""Products with the sums of oneDNN, for CPUs that have products of bf16."""


def _with_avx2(source: str) -> CompiledForm:
    flags, needs = ("-mavx2", "-mfma"), frozenset({"avx2", "fma"})
    return CompiledForm(__package__, source, "AVX2 with FMA", flags, needs)


WIDE = _with_avx2("wide_product.c")
"""Products in float32, for CPUs for which oneDNN does not pack bf16."""
OPERATORS = _with_avx2("operators.c")
ATTENTION = _with_avx2("attention.c")
ALL = (LIKE_ONEDNN, WIDE, OPERATORS, ATTENTION)


@functools.cache
def library(form: CompiledForm) -> ctypes.CDLL | None:
    """It, compiled; None where this CPU or machine has not what it needs."""
    try:
        if not form.runs_here:
            return None
        return compiled(*form.compiled_from)
    except FailedPrecondition as error:
        _log.warning("not compiled", source=form.source, reason=str(error))
        return None
