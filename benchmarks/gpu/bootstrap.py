"""Makes what the machine lacks importable: the wheels that benchmarks.gpu.bundle collected.

Standard library only: it runs before anything of Paceline is imported.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "gpu-bundle"
PROTOS = "protos.zip"
VERSION = "python.txt"
"""Of the Python that the wheels are for."""


def bootstrap() -> None:
    """Unpack the bundle beside the sources, and put it first; nothing where there is none.

    Processes that this one starts find it too.
    """
    paths = [str(ROOT)]
    if _fits():
        folder = Path(tempfile.gettempdir()) / f"paceline-gpu-{os.getuid()}"
        _unpack(folder)
        paths.insert(0, str(folder))
    sys.path[:0] = paths
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [known])])


def _fits() -> bool:
    """Whether there is a bundle, of this Python: wheels of another would hide what works."""
    version = BUNDLE / VERSION
    ours = "{}.{}".format(*sys.version_info)
    return version.is_file() and version.read_text().strip() == ours


def _unpack(folder: Path) -> None:
    """All wheels into `folder`, and the generated protos to where they belong."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(BUNDLE.glob("*.whl")):
        done = folder / f".{wheel.name}"
        if not done.exists():
            zipfile.ZipFile(wheel).extractall(folder)
            done.touch()
    protos = BUNDLE / PROTOS
    if protos.exists() and not (ROOT / "paceline/v1/session_pb2.py").exists():
        zipfile.ZipFile(protos).extractall(ROOT)
