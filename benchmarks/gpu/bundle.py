"""python -m benchmarks.gpu.bundle: what a bare GPU machine lacks, in gpu-bundle/, under 64 MiB.

Collects the wheels of our dependencies but those that come with torch and transformers, and the
generated protos. Carry the folder beside the sources; `python -m benchmarks.gpu` finds it there.
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

from benchmarks.gpu.bootstrap import BUNDLE, PROTOS, ROOT, VERSION

MOST_BYTES = 64 * 2**20
THERE = {
    *("torch", "transformers", "numpy", "tokenizers", "safetensors", "huggingface-hub", "triton"),
    *("jinja2", "markupsafe", "filelock", "fsspec", "packaging", "pyyaml", "regex", "requests"),
    *("sympy", "networkx", "mpmath", "tqdm", "typer", "hf-xet"),
}
"""What torch and transformers bring."""
PACKAGES = (
    *("cryptography", "h11", "sentencepiece"),
    *("grpcio", "grpcio-health-checking", "grpcio-reflection", "grpcio-status"),
    *("gguf", "llguidance", "platformdirs", "prometheus-client", "protobuf", "psutil"),
    *("pydantic-settings", "rich", "structlog", "uvloop", "smg-grpc-proto"),
    *("pytest", "pytest-timeout", "hypothesis"),
)
"""What we import there, with what it needs."""
ALONE = ("accelerate",)
"""Likewise, whose needs are there: transformers places weights on a device with it."""


def main() -> int:
    """Collect; 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="3.12", help="of the GPU machine, as 3.12")
    options = parser.parse_args()
    BUNDLE.mkdir(exist_ok=True)
    for old in BUNDLE.iterdir():
        old.unlink()
    (BUNDLE / VERSION).write_text(options.python)
    _download(options.python)
    for wheel in BUNDLE.glob("*.whl"):
        if _package(wheel) in THERE:
            wheel.unlink()
    with zipfile.ZipFile(BUNDLE / PROTOS, "w", zipfile.ZIP_DEFLATED) as protos:
        for path in sorted((ROOT / "paceline/v1").glob("*.py")):
            protos.write(path, path.relative_to(ROOT))
    size = sum(path.stat().st_size for path in BUNDLE.iterdir())
    print(f"{BUNDLE}: {size / 2**20:.1f} of {MOST_BYTES / 2**20:.0f} MiB")
    return int(size > MOST_BYTES)


def _download(python: str) -> None:
    """Wheels of our packages and of what they need, as our own environment pins them."""
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pins = ROOT / "gpu-bundle" / "pins.txt"
    pins.write_text(
        "\n".join(line for line in installed.splitlines() if "==" in line and "torch" not in line)
    )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += [f"--python-version={python}", f"--dest={BUNDLE}", f"--constraint={pins}"]
    subprocess.run([*command, *PACKAGES], check=True)  # noqa: S603
    subprocess.run([*command, "--no-deps", *ALONE], check=True)  # noqa: S603


def _package(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-").lower()


if __name__ == "__main__":
    sys.exit(main())
