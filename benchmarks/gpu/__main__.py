"""python -m benchmarks.gpu: all that only a GPU can show, within eight minutes, as one table.

Needs torch and transformers, and of the rest only what `python -m benchmarks.gpu.bundle` put into
gpu-bundle/. Each part is a process of its own with a limit: one that fails or hangs loses nothing
of the others. Figures are written after each of them. --device cpu --shapes tiny tries all of it.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.bootstrap import ROOT, bootstrap

bootstrap()

from benchmarks.gpu.plan import Part, plan

BUDGET = 480.0
TESTS = tuple(f"tests/unit/engine/torch/{one}" for one in ("sampling", "paged", "kernels"))


def main() -> int:
    """Run the day, or within it one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="of the targets; unless given: cuda")
    parser.add_argument("--shapes", nargs="*", default=["1.5B", "8B", "32B"], help="1.5B 8B 32B")
    parser.add_argument("--seconds", type=float, default=BUDGET, help="for all of it")
    parser.add_argument(
        "--json", type=Path, default=Path("gpu.json"), help="write the figures there"
    )
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return _run_part(options)
    folder = Path(tempfile.mkdtemp(prefix="paceline-gpu-", dir=_room()))
    try:
        return _run_day(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _room() -> str | None:
    """Where pairs are put: in memory, where there is enough of it."""
    shared = Path("/dev/shm")  # noqa: S108  a folder of our own is made within
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 2**35 else None


def _run_part(options: argparse.Namespace) -> int:
    """In this process; its figures go to standard output, as the last line."""
    import torch

    from benchmarks.gpu.options import GpuOptions
    from benchmarks.gpu.parts import PARTS

    name, *arguments = options.part
    tiny = options.shapes == ["tiny"]
    if tiny:  # is quicker on one thread than on several that wait for each other
        torch.set_num_threads(1)
    figures = PARTS[name](GpuOptions.of(options.device, options.folder, tiny=tiny), *arguments)
    print(json.dumps(figures), flush=True)
    return 0


def _run_day(options: argparse.Namespace, folder: Path) -> int:
    from benchmarks.gpu.report import show

    started = time.monotonic()
    results: dict[str, dict[str, Any]] = {}
    for part in plan(options.shapes, options.device):
        left = options.seconds - (time.monotonic() - started)
        results[part.key] = _begun(part, options, folder, left, results)
        options.json.write_text(json.dumps(results, indent=1))
    _explain(results)
    show(results, options.device)
    return int(any("error" in one for one in results.values()))


def _begun(
    part: Part,
    options: argparse.Namespace,
    folder: Path,
    left: float,
    results: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """A part's figures, or why it was not begun. left: seconds of the day."""
    memory = results.get("machine", {}).get("memory_bytes", math.inf)
    if part.bytes > memory:
        return {"error": f"needs {part.bytes / 1e9:.0f} GB, and the device has {memory / 1e9:.0f}"}
    if left < part.least:
        return {"error": f"not begun: {max(0.0, left):.0f} s were left"}
    began = time.monotonic()
    print(f"{part.key} ...", file=sys.stderr, flush=True)
    figures = _guarded(part, options, folder, min(part.seconds, left))
    return {**figures, "took_seconds": round(time.monotonic() - began, 1)}


def _guarded(
    part: Part, options: argparse.Namespace, folder: Path, seconds: float
) -> dict[str, Any]:
    """A part's figures, or its error."""
    if part.name == "tests":
        return _tests(options, seconds)
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", options.device]
    command += ["--folder", str(folder), "--shapes", *options.shapes]
    code, output, errors = _process([*command, "--part", part.name, *part.arguments], seconds)
    try:
        return dict(json.loads(output.splitlines()[-1]))
    except (ValueError, IndexError):
        last = [line for line in errors.splitlines() if line.strip()][-12:]
        what = f"not done in {seconds:.0f} s" if code is None else f"ended with {code}"
        return {"error": f"{what}: {last[-1] if last else ''}", "lines": last}


def _tests(options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The exactness tests, on the device."""
    environment = {"DEVICE_OF_TESTS": options.device}
    names = ["-c", os.devnull, f"--rootdir={ROOT}", "-q", "-p", "no:cacheprovider", *TESTS]
    if options.device == "cpu":
        names += ["-k", "test_one_step or test_pieces or test_pool"]
    code, output, errors = _process([sys.executable, "-m", "pytest", *names], seconds, environment)
    lines = [line for line in output.splitlines() if line.strip()] or errors.splitlines()[-5:]
    summary = "not done in time" if code is None else lines[-1] if lines else "nothing"
    return {"passed": code == 0, "summary": summary, "lines": lines[-40:]}


def _process(
    command: list[str], seconds: float, environment: dict[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Exit status, None where it was killed; what it wrote."""
    with subprocess.Popen(  # noqa: S603  our own arguments
        command,
        cwd=ROOT,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            return None, output, errors
        return process.returncode, output, errors


def _explain(results: dict[str, dict[str, Any]]) -> None:
    """Where steps spend their time, and what failed, before the table."""
    for name, one in results.items():
        for line in one.get("profile", one.get("lines", [])):
            print(f"{name}: {line}")


if __name__ == "__main__":
    sys.exit(main())
