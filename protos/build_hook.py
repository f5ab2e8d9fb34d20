"""Compiles the protos into paceline/v1 whenever the project is installed or built."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KINDS = ("python", "grpc_python", "mypy", "mypy_grpc")


class ProtoBuildHook(BuildHookInterface[Any]):
    """Hatchling calls this before it collects files, for wheels and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; raise RuntimeError when protoc reports an error."""
        compile_protos(Path(self.root))


def compile_protos(root: Path) -> None:
    """Write messages, services and their type stubs for root/protos under root/paceline/v1."""
    protos = root / "protos"
    sources = sorted(str(path) for path in protos.glob("paceline/v1/*.proto"))
    package = root / "paceline" / "v1"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text('"""Generated from protos/paceline/v1."""\n')
    outputs = [f"--{kind}_out={root}" for kind in KINDS]
    well_known = str(files("grpc_tools") / "_proto")
    # The mypy plugins are scripts beside this interpreter, which need not be on PATH.
    bin_folder = Path(sys.executable).parent
    plugins = [
        f"--plugin={plugin}={bin_folder / plugin}"
        for plugin in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        if (bin_folder / plugin).exists()
    ]
    if protoc.main(["protoc", f"-I{protos}", f"-I{well_known}", *plugins, *outputs, *sources]):
        raise RuntimeError("protoc failed; see above")
