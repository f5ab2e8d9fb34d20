"""Targets on vLLM are run by the Python of its environment."""

import re
import sys
from pathlib import Path

import pytest

from paceline.errors import FailedPrecondition, InvalidArgument
from paceline_tools.local_servers import running
from paceline_tools.other_python import OPENMP, OtherPython, check_vllm_python, vllm_python


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Of vLLM with Intel's OpenMP; its Python says what it was loaded with."""
    python = tmp_path / "bin" / "python"
    (tmp_path / OPENMP).parent.mkdir()
    (tmp_path / OPENMP).touch()
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$LD_PRELOAD" "$KMP_BLOCKTIME" "$@" > "$0.said"\n')
    python.chmod(0o755)
    return python


def test_openmp_of_the_environment_is_loaded_behind_what_is_loaded_anyway(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    openmp = str(environment.parent.parent / OPENMP)
    assert vllm_python(environment).variables == {"LD_PRELOAD": openmp, "KMP_BLOCKTIME": "1"}
    monkeypatch.setenv("LD_PRELOAD", "libtcmalloc.so")
    monkeypatch.setenv("KMP_BLOCKTIME", "5")
    assert vllm_python(environment).variables == {
        "LD_PRELOAD": f"libtcmalloc.so {openmp}",
        "KMP_BLOCKTIME": "5",
    }


def test_without_it_nothing_is_loaded() -> None:
    assert vllm_python(Path("/nowhere/bin/python")) == OtherPython("/nowhere/bin/python")


async def test_a_server_is_run_by_the_python_it_is_given(environment: Path) -> None:
    async def ready() -> None:
        while not environment.with_name("python.said").is_file():
            assert environment.is_file()

    command = {"target": ["-m", "target_server"]}
    python = OtherPython(str(environment), {"LD_PRELOAD": "", "KMP_BLOCKTIME": "7"})
    async with running(command, ready, serves=lambda _: True, pythons={"target": python}):
        pass
    assert environment.with_name("python.said").read_text().split() == ["7", "-m", "target_server"]


def test_a_python_that_is_not_there_is_named() -> None:
    match = re.escape(
        "--vllm is '/nowhere/python'; it must be the Python of an environment with vLLM and "
        "Paceline, as vllm-env/bin/python"
    )
    with pytest.raises(InvalidArgument, match=match):
        check_vllm_python("--vllm", OtherPython("/nowhere/python"))


def test_a_python_without_vllm_says_what_to_install() -> None:
    match = f"^--vllm: {sys.executable} cannot serve a target: .*run: pip install vllm=="
    with pytest.raises(FailedPrecondition, match=match):
        check_vllm_python("--vllm", OtherPython(sys.executable))


def test_a_python_without_paceline_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    bare = OtherPython(sys.executable, {"PYTHONPATH": "", "PYTHONHOME": "/nowhere"})
    with pytest.raises(FailedPrecondition, match="cannot serve a target: "):
        check_vllm_python("--vllm", bare)
