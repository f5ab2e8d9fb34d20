"""Where the compiled step does not run, its engine says why."""

import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from paceline.engine import compiling
from paceline.engine.compiled import library
from paceline.engine.compiled.engine import CompiledEngine
from paceline.engine.compiled.library import AVX2, AVX512
from paceline.engine.compiling import key_of


@pytest.fixture(autouse=True)
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing is compiled yet: its folder of compilers, which is empty."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    has(AVX2.needs, monkeypatch, tmp_path)
    (tmp_path / "bin").mkdir()
    library._library.cache_clear()
    yield tmp_path / "bin"
    library._library.cache_clear()


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


def has(flags: Iterable[str], patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A CPU with these instructions, of which Linux says so."""
    processors = folder / "cpuinfo"
    said = f"processor\t: 0\nmodel name\t: One\nflags\t\t: fpu sse4_2 {' '.join(flags)}\n\n"
    processors.write_text(said * 2)
    patch.setattr(compiling, "_PROCESSORS", processors)


def test_the_quickest_form_that_the_cpu_has_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(AVX512.needs | AVX2.needs, monkeypatch, tmp_path)
    assert library.form() is AVX512
    for missing in AVX512.needs - AVX2.needs:
        has((AVX512.needs | AVX2.needs) - {missing}, monkeypatch, tmp_path)
        assert library.form() is AVX2


@pytest.mark.parametrize("missing", AVX2.needs)
def test_a_cpu_without_the_instructions_is_told(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has((AVX512.needs | AVX2.needs) - AVX512.needs, monkeypatch, tmp_path)
    assert CompiledEngine().why_not() == "this CPU lacks AVX2 with FMA and F16C"
    has(AVX2.needs - {missing}, monkeypatch, tmp_path)
    assert CompiledEngine().why_not() == "this CPU lacks AVX2 with FMA and F16C"


def test_nothing_is_loaded_that_the_cpu_may_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[str, ...]] = []

    def noted(*source: tuple[str, ...]) -> MagicMock:
        loaded.append(source[2])
        return MagicMock()

    monkeypatch.setattr(library, "compiled", noted)
    has((), monkeypatch, tmp_path)
    assert CompiledEngine().why_not()
    assert loaded == []
    has(AVX2.needs, monkeypatch, tmp_path)
    assert CompiledEngine().why_not() == ""
    [flags] = loaded
    assert not [flag for flag in flags if "avx512" in flag]


def test_where_linux_does_not_say_what_the_cpu_has_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_PROCESSORS", tmp_path / "none")
    reason = f"No such file or directory: '{tmp_path}/none'"
    assert CompiledEngine().why_not().endswith(reason)


def test_each_form_and_other_flags_are_another_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, source, flags, links = AVX2.compiled_from
    has(AVX2.needs, monkeypatch, tmp_path)
    release = CompiledEngine().release()
    assert release == key_of(package, source, flags, links)
    assert release != key_of(package, source, flags[:-1], links)
    assert release != key_of(package, source, flags)
    has(AVX512.needs, monkeypatch, tmp_path)
    assert CompiledEngine().release() == key_of(*AVX512.compiled_from) != release
