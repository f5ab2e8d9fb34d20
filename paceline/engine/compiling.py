"""C that stands beside its Python: compiled ahead, or once on a machine and kept beside models."""

import ctypes
import hashlib
import os
import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from paceline.catalog import home
from paceline.errors import FailedPrecondition, in_a_line

COMPILE_TIMEOUT_S = 60
"""It takes one."""
AHEAD = Path("/usr/local/lib/paceline")
"""Where images have what was compiled ahead: see compile_ahead.py."""
_ELF_HEADER = 64
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-fopenmp")
WRITTEN_FOR = "Linux on x86_64"
"""All C that there is: see this_machine."""
_PROCESSORS = Path("/proc/cpuinfo")

Source = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""As `compiled` takes it: package, file, and the flags of both steps."""


@dataclass(frozen=True, slots=True)
class CompiledForm:
    """What a package's source is compiled to, and what it needs of the CPU, as Linux names it.

    name: of what it needs, for people. flags: of the object, beside those that all have. links: of
    the library; one made with -fopenmp brings threads of its own beside torch's.
    """

    package: str
    source: str
    name: str
    flags: tuple[str, ...]
    needs: frozenset[str]
    links: tuple[str, ...] = ()

    @property
    def runs_here(self) -> bool:
        """Whether the CPU has what it needs. Raises FailedPrecondition where that is not known."""
        return this_machine() == WRITTEN_FOR and self.needs <= cpu_flags()

    @property
    def compiled_from(self) -> Source:
        """As `compiled` takes it."""
        return self.package, self.source, (*_FLAGS, *self.flags), self.links


def this_machine() -> str:
    """Its system and architecture."""
    return f"{platform.system()} on {platform.machine()}"


def cpu_flags() -> frozenset[str]:
    """What instructions this CPU has, as Linux names them. Raises FailedPrecondition."""
    try:
        with _PROCESSORS.open() as lines:
            said = next((line for line in lines if line.startswith("flags")), "")
    except OSError as error:
        raise FailedPrecondition(in_a_line(error)) from error
    return frozenset(said.partition(":")[2].split())


def compiled(
    package: str, source: str, flags: Sequence[str], links: Sequence[str] = ()
) -> ctypes.CDLL:
    """The library made of a package's `source`, see compiled_file.

    One that is threaded finds OpenMP where torch has loaded it: torch's own, so that both have the
    same threads.
    """
    return _loaded(compiled_file(package, source, flags, links))


def compiled_file(
    package: str, source: str, flags: Sequence[str], links: Sequence[str] = ()
) -> Path:
    """Where it is that is made of a package's `source`, which may include headers beside it.

    links: flags of the second step, which makes the library of the object. Where it was compiled
    ahead, neither a compiler nor a folder to write to is needed. Raises FailedPrecondition where
    there is no compiler, or it fails, or its work cannot be kept.
    """
    ahead = AHEAD / _name(package, source, flags, links)
    if _is_whole(ahead):
        return ahead
    return compile_into(home() / "compiled", package, source, flags, links)


def compile_into(
    folder: Path, package: str, source: str, flags: Sequence[str], links: Sequence[str] = ()
) -> Path:
    """The file of that library in a folder, compiled unless it is there. Raises as `compiled`."""
    kept = folder / _name(package, source, flags, links)
    if not _is_whole(kept):
        try:
            _compile(_sources(package, source), source, kept, (flags, links))
        except OSError as error:
            where = f"{kept.parent}, where it would be kept"
            raise FailedPrecondition(f"{where}: {in_a_line(error)}") from error
    return kept


def key_of(package: str, source: str, flags: Sequence[str], links: Sequence[str] = ()) -> str:
    """Another one whenever that library would be."""
    said = (one.encode() for one in (*flags, *links))
    return hashlib.sha256(b" ".join((*_sources(package, source).values(), *said))).hexdigest()[:8]


def _name(package: str, source: str, flags: Sequence[str], links: Sequence[str]) -> str:
    """Of its file: one of other sources or flags is never taken for it."""
    return f"{Path(source).stem}-{key_of(package, source, flags, links)}.so"


def _is_whole(file: Path) -> bool:
    """Whether an ELF file is as long as it says, that its table of sections ends it.

    What was cut off by a full disk would kill the process that loads it, by SIGBUS.
    """
    try:
        with file.open("rb") as read:
            header, size = read.read(_ELF_HEADER), read.seek(0, os.SEEK_END)
    except OSError:
        return False
    if len(header) < _ELF_HEADER or not header.startswith(b"\x7fELF"):
        return False
    [start] = struct.unpack_from("<Q", header, 40)
    each, count = struct.unpack_from("<HH", header, 58)
    return bool(start and start + each * count <= size)


def _sources(package: str, source: str) -> dict[str, bytes]:
    """By name: it, and all headers beside it."""
    return {
        one.name: one.read_bytes()
        for one in sorted(files(package).iterdir(), key=lambda one: one.name)
        if one.name == source or one.name.endswith(".h")
    }


def _loaded(file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(file))
    except OSError as error:
        raise FailedPrecondition(f"{file} cannot be loaded: {in_a_line(error)}") from error


def _compile(
    sources: dict[str, bytes], source: str, kept: Path, steps: tuple[Sequence[str], Sequence[str]]
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise FailedPrecondition("there is no C compiler, cc, on the PATH")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        for name, contents in sources.items():
            Path(folder, name).write_bytes(contents)
        made, shared = Path(folder, "made.o"), Path(folder, kept.name)
        flags, links = steps
        _run([compiler, *flags, "-c", str(Path(folder, source)), "-o", str(made)])
        _run([compiler, "-shared", str(made), "-o", str(shared), *links])
        shared.replace(kept)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  our own command, without a shell
            command, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedPrecondition(f"{command[0]} failed: {in_a_line(error)}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing said"]
        raise FailedPrecondition(f"{command[0]} ended with {done.returncode}: {said[-1][:200]}")
