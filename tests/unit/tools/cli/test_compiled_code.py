"""The doctor says where targets cannot have their C."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paceline.engine import compiling
from paceline.errors import FailedPrecondition
from paceline_tools.cli import compiled_code as module
from paceline_tools.cli.compiled_code import ADVICE, SUBJECT, compiled_code
from paceline_tools.cli.findings import Level


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With AVX2 and nothing compiled; its folder of compilers, which is empty."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compiling, "AHEAD", tmp_path / "ahead")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(compiling, "this_machine", lambda: compiling.WRITTEN_FOR)
    monkeypatch.setattr(compiling, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def a_compiler(folder: Path, does: str) -> None:
    (folder / "cc").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "cc").chmod(0o755)


def said() -> tuple[Level, str]:
    [found] = compiled_code()
    assert found.subject == SUBJECT
    assert (found.advice == ADVICE) == (found.level is Level.NOTE)
    return found.level, found.what


def test_without_a_compiler_it_says_what_to_install() -> None:
    what = "wide_product.c is not compiled: there is no C compiler, cc, on the PATH"
    assert said() == (Level.NOTE, what)


def test_a_compiler_that_fails_is_quoted(machine: Path) -> None:
    a_compiler(machine, "echo 'no such flag' >&2; exit 3")
    what = f"wide_product.c is not compiled: {machine}/cc ended with 3: no such flag"
    assert said() == (Level.NOTE, what)


@pytest.mark.skipif(shutil.which("cc") is None, reason="nothing is compiled here")
def test_with_one_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert said() == (Level.OK, "all that they have in C is here")
    monkeypatch.setenv("PATH", "")
    assert said() == (Level.OK, "all that they have in C is here")  # it is kept


@pytest.mark.skipif(shutil.which("cc") is None, reason="nothing is compiled here")
def test_all_is_well_where_nothing_has_loaded_torch_and_its_openmp(tmp_path: Path) -> None:
    code = (
        "import sys; from paceline_tools.cli.compiled_code import compiled_code;"
        "print(*[one.what for one in compiled_code()], 'torch' in sys.modules)"
    )
    home = {"PACELINE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command, given = [sys.executable, "-c", code], {**os.environ, **home}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.stdout in {"all that they have in C is here False\n", "False\n"}, done.stderr


def test_other_machines_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> frozenset[str]:
        raise FailedPrecondition("no /proc")

    monkeypatch.setattr(compiling, "cpu_flags", unknown)
    assert compiled_code() == []
    monkeypatch.setattr(compiling, "cpu_flags", lambda: frozenset({"sse2"}))
    assert compiled_code() == []
    monkeypatch.setattr(compiling, "this_machine", lambda: "Linux on aarch64")
    assert compiled_code() == []
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert compiled_code() == []
