"""What the wheel holds, and that what needs no engine runs without torch."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("paceline", "draft_server", "target_server", "orchestrator", "paceline_tools")
WITHOUT_TORCH = """
import importlib, sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "accelerate", "gguf"), None))
importlib.import_module(sys.argv[1])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel built of a copy without generated code."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("protos", *PACKAGES):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("v1", "*.pyc"))
    shutil.copytree(ROOT / "protos", source / "protos", dirs_exist_ok=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(
        command, cwd=source, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    [built] = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_has_the_generated_code_and_its_types(wheel: list[str]) -> None:
    protos = [path.stem for path in (ROOT / "protos" / "paceline" / "v1").glob("*.proto")]
    assert {f"paceline/v1/{name}_pb2{end}" for name in protos for end in (".py", ".pyi")} <= {
        *wheel
    }
    assert "paceline/v1/generation_pb2_grpc.pyi" in wheel
    assert {f"{package}/py.typed" for package in PACKAGES} <= {*wheel}


def test_the_wheel_has_nothing_but_the_packages(wheel: list[str]) -> None:
    top = {name.partition("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {*PACKAGES}


@pytest.mark.parametrize(
    "module",
    [
        "orchestrator.__main__",
        "paceline.client",
        "paceline_tools.cli.app",
        "paceline_tools.cli.demo",
        "draft_server.__main__",
    ],
)
def test_the_base_install_needs_no_torch(module: str) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
