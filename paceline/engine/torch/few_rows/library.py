"""product.c, compiled once on a machine and kept beside the models."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

import structlog
import torch

from paceline.catalog import home
from paceline.errors import FailedPrecondition, in_a_line

_log = structlog.get_logger(__name__)

FLAGS = (
    *("-std=c11", "-O3", "-fPIC", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16"),
)
NEEDED = ("avx512_f", "avx512_bw", "avx512_vl", "avx512_bf16")
"""What the CPU must have, as torch names it."""
COMPILE_TIMEOUT_S = 60
"""It takes one."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """product.c, ready to be called; None where this CPU or machine has not what it needs."""
    capabilities = torch.cpu.get_capabilities()
    if not all(capabilities.get(name) for name in NEEDED):
        return None
    try:
        return _loaded(_compiled())
    except FailedPrecondition as error:
        _log.info("few rows run in oneDNN", reason=str(error))
        return None


def _loaded(file: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise FailedPrecondition(f"{file} cannot be loaded: {in_a_line(error)}") from error
    pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
    loaded.product.argtypes = [*[pointer] * 4, *[size] * 4, ctypes.c_int]
    return loaded


def _compiled() -> Path:
    """The shared library, made where it is not there yet. Raises FailedPrecondition."""
    source = files(__package__).joinpath("product.c").read_bytes()
    key = hashlib.sha256(b" ".join((source, *(flag.encode() for flag in FLAGS)))).hexdigest()[:8]
    kept = home() / "compiled" / f"product-{key}.so"
    if not kept.exists():
        try:
            _compile(source, kept)
        except OSError as error:
            where = f"{kept.parent}, where it would be kept"
            raise FailedPrecondition(f"{where}: {in_a_line(error)}") from error
    return kept


def _compile(source: bytes, kept: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise FailedPrecondition("there is no C compiler, cc, on the PATH")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        made = Path(folder, "product.o")
        _run([compiler, *FLAGS, "-xc", "-", "-c", "-o", str(made)], source)
        # Not -fopenmp: it would bring a second pool of threads beside torch's.
        shared = Path(folder, kept.name)
        _run([compiler, "-shared", str(made), "-o", str(shared)], b"")
        shared.replace(kept)


def _run(command: list[str], given: bytes) -> None:
    try:
        done = subprocess.run(  # noqa: S603  our own command, without a shell
            command, input=given, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedPrecondition(f"{command[0]} failed: {in_a_line(error)}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing said"]
        raise FailedPrecondition(f"{command[0]} ended with {done.returncode}: {said[-1][:200]}")
