"""The doctor says where targets cannot have their C."""

from pathlib import Path

import pytest

from paceline.engine import compiling
from paceline.engine.torch.native import library
from paceline.errors import FailedPrecondition
from paceline_tools.cli import compiled_code as module
from paceline_tools.cli.compiled_code import ADVICE, compiled_code
from paceline_tools.cli.findings import Finding, Level

SUBJECT = "targets on this CPU"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With AVX2 and nothing compiled; its folder of compilers, which is empty."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compiling, "AHEAD", tmp_path / "ahead")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(library, "this_machine", lambda: compiling.WRITTEN_FOR)
    monkeypatch.setattr(library, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def a_compiler(folder: Path) -> None:
    (folder / "cc").write_text("#!/bin/sh\n")
    (folder / "cc").chmod(0o755)


def test_without_a_compiler_it_says_what_to_install() -> None:
    sources = "wide_product.c, operators.c, attention.c"
    what = f"{sources} cannot be compiled: there is no C compiler, cc, on the PATH"
    assert compiled_code() == [Finding(Level.NOTE, SUBJECT, what, ADVICE)]


def test_with_one_all_is_well(machine: Path) -> None:
    a_compiler(machine)
    [found] = compiled_code()
    assert (found.level, found.what) == (Level.OK, "all that they have in C is at hand")


def test_what_is_compiled_ahead_needs_none(tmp_path: Path) -> None:
    (tmp_path / "ahead").mkdir()
    for code in (library.WIDE, library.OPERATORS, library.ATTENTION):
        package, source, flags, links = code.compiled_from
        name = f"{Path(source).stem}-{compiling.key_of(package, source, flags, links)}.so"
        (tmp_path / "ahead" / name).touch()
    assert [found.level for found in compiled_code()] == [Level.OK]


def test_other_machines_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> frozenset[str]:
        raise FailedPrecondition("no /proc")

    monkeypatch.setattr(library, "cpu_flags", unknown)
    assert compiled_code() == []
    monkeypatch.setattr(library, "cpu_flags", lambda: frozenset({"sse2"}))
    assert compiled_code() == []
    monkeypatch.setattr(library, "this_machine", lambda: "Linux on aarch64")
    assert compiled_code() == []
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert compiled_code() == []
