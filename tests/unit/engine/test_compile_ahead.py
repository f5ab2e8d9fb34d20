"""Libraries compiled ahead are taken where there is no compiler, unless they are stale."""

import platform
import shutil
import sys
from pathlib import Path

import pytest

from paceline.engine import compile_ahead, compiling
from paceline.engine.compile_ahead import SOURCES
from paceline.engine.compiled.library import FORMS
from paceline.engine.compiling import compile_into, compiled, key_of
from paceline.errors import FailedPrecondition

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="nothing is compiled here")

PACKAGE, FLAGS = "package_with_c", ("-fPIC",)
NO_COMPILER = "there is no C compiler, cc, on the PATH"


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The C of a package; the home is no folder, so nothing can be kept there."""
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").touch()
    (tmp_path / PACKAGE / "answer.c").write_text("int answer(void) { return 42; }\n")
    (tmp_path / "home").write_text("no folder")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compiling, "AHEAD", tmp_path / "ahead")
    return tmp_path / PACKAGE / "answer.c"


@pytest.fixture
def ahead(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it was compiled ahead; the compiler is gone."""
    file = compile_into(tmp_path / "ahead", PACKAGE, source.name, FLAGS)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return file


def test_it_needs_neither_a_compiler_nor_a_home(ahead: Path) -> None:
    found = compiled(PACKAGE, "answer.c", FLAGS)
    assert (found._name, found.answer()) == (str(ahead), 42)


@pytest.mark.usefixtures("ahead")
def test_one_of_another_source_is_not_taken(source: Path) -> None:
    source.write_text("int answer(void) { return 43; }\n")
    with pytest.raises(FailedPrecondition, match=NO_COMPILER):
        compiled(PACKAGE, "answer.c", FLAGS)


@pytest.mark.usefixtures("ahead")
def test_one_of_other_flags_is_not_taken() -> None:
    with pytest.raises(FailedPrecondition, match=NO_COMPILER):
        compiled(PACKAGE, "answer.c", (*FLAGS, "-O2"))


def test_without_it_a_home_is_compiled_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "other"))
    found = compiled(PACKAGE, "answer.c", FLAGS)
    assert Path(found._name).parent == tmp_path / "other" / "compiled"
    assert found.answer() == 42


@pytest.mark.parametrize("left", [0, 40, 5000])
def test_what_was_cut_off_is_compiled_again(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "other"))
    kept = compile_into(tmp_path / "other" / "compiled", PACKAGE, "answer.c", FLAGS)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:left])
    assert compiled(PACKAGE, "answer.c", FLAGS).answer() == 42
    assert len(kept.read_bytes()) == len(whole)


def test_what_was_cut_off_ahead_is_not_loaded(ahead: Path) -> None:
    ahead.write_bytes(ahead.read_bytes()[:5000])
    with pytest.raises(FailedPrecondition, match=NO_COMPILER):
        compiled(PACKAGE, "answer.c", FLAGS)


def test_all_c_that_there_is_is_compiled_ahead() -> None:
    there = Path(compiling.__file__).parents[1].rglob("*.c")
    assert {source for _, source, *_ in SOURCES} == {path.name for path in there}


def test_each_form_of_the_step_is_compiled_ahead() -> None:
    # Of which one an image runs on, its builder knows nothing.
    assert {form.compiled_from for form in FORMS} <= set(SOURCES)
    assert len({key_of(*form.compiled_from) for form in FORMS}) == len(FORMS)


@pytest.mark.skipif(
    compiling.this_machine() != compiling.WRITTEN_FOR, reason="flags are of another architecture"
)
def test_each_is_found_where_it_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path / "ahead")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = [compiled(*source)._name for source in SOURCES]
    assert capsys.readouterr().out.splitlines() == found


def test_a_machine_of_another_architecture_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    run(monkeypatch, tmp_path / "ahead")
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("all C is for Linux on x86_64, and this is Linux on aarch64")
    assert list((tmp_path / "ahead").iterdir()) == []


def test_an_image_is_not_built_where_its_compiler_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_ahead, "this_machine", lambda: compiling.WRITTEN_FOR)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SystemExit, match=NO_COMPILER):
        run(monkeypatch, tmp_path / "ahead")


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["compile_ahead", str(folder)])
    compile_ahead.main()
