"""Where the compiled step does not run, its engine says why."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.engine.compiled import library
from paceline.engine.compiled.engine import CompiledEngine
from paceline.engine.compiled.library import FLAGS, LINKS
from paceline.engine.compiling import key_of


@pytest.fixture(autouse=True)
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing is compiled yet: its folder of compilers, which is empty."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "bin").mkdir()
    library.library.cache_clear()
    yield tmp_path / "bin"
    library.library.cache_clear()


def test_without_a_compiler_it_says_so() -> None:
    assert CompiledEngine().why_not() == "there is no C compiler, cc, on the PATH"


def test_a_compiler_that_fails_is_quoted(anew: Path) -> None:
    compiler = anew / "cc"
    compiler.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 3\n")
    compiler.chmod(0o755)
    assert CompiledEngine().why_not() == f"{compiler} ended with 3: no such flag"


def test_another_kind_of_cpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    reason = "it is written for Linux on x86_64, and this is Linux on aarch64"
    assert CompiledEngine().why_not() == reason


def test_a_cpu_without_the_instructions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """A library on such a CPU."""

        @staticmethod
        def runs_here() -> int:
            return 0

    monkeypatch.setattr(library, "compiled", lambda *_: Old())
    assert CompiledEngine().why_not() == "this CPU lacks AVX-512 with VNNI and bfloat16"


def test_other_flags_are_another_release() -> None:
    package = library.__package__
    release = CompiledEngine().release()
    assert release == key_of(package, "step.c", FLAGS, LINKS)
    assert release != key_of(package, "step.c", FLAGS[:-1], LINKS)
    assert release != key_of(package, "step.c", FLAGS)
