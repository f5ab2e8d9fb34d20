"""The C of this package, ready to be called."""

import ctypes
import functools
from dataclasses import dataclass

import structlog

from paceline.engine.compiling import WRITTEN_FOR, Source, compiled, cpu_flags, this_machine
from paceline.errors import FailedPrecondition

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NativeCode:
    """A file, its flags, and what the CPU must have for it, as Linux names it.

    The flags are of the object alone: a library made with -fopenmp brings threads of its own
    beside torch's.
    """

    source: str
    flags: tuple[str, ...] = ("-mavx2", "-mfma")
    needed: tuple[str, ...] = ("avx2", "fma")

    @property
    def runs_here(self) -> bool:
        """Whether the CPU has what it needs. Raises FailedPrecondition where that is not known."""
        return this_machine() == WRITTEN_FOR and cpu_flags() >= set(self.needed)

    @property
    def compiled_from(self) -> Source:
        """As `compiled` takes it."""
        flags = ("-std=c11", "-O3", "-fPIC", "-fopenmp", *self.flags)
        return (__package__, self.source, flags, ())


LIKE_ONEDNN = NativeCode(
    "product.c",
    ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16"),
    ("avx512f", "avx512bw", "avx512vl", "avx512_bf16"),
)
"""Products with the sums of oneDNN, for CPUs that have products of bf16."""
WIDE = NativeCode("wide_product.c")
"""Products in float32, for CPUs for which oneDNN does not pack bf16."""
OPERATORS = NativeCode("operators.c")
ATTENTION = NativeCode("attention.c")
ALL = (LIKE_ONEDNN, WIDE, OPERATORS, ATTENTION)


@functools.cache
def library(code: NativeCode) -> ctypes.CDLL | None:
    """It, compiled; None where this CPU or machine has not what it needs."""
    try:
        if not code.runs_here:
            return None
        return compiled(*code.compiled_from)
    except FailedPrecondition as error:
        _log.warning("not compiled", source=code.source, reason=str(error))
        return None
