"""Our target server in the environment of the peer vLLM."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import paceline
import target_server
from paceline.errors import FailedPrecondition
from paceline_tools.bench.peers.environments import folder_of, installed
from paceline_tools.bench.peers.registry import PEERS
from paceline_tools.other_python import OtherPython, vllm_python

SERVED = (paceline, target_server)
"""Our packages that a target server is made of."""
VLLM_ARGUMENTS = json.dumps({"kv_cache_memory_bytes": 512 << 20, "max_model_len": 4096})
"""KV and context as the peer has them, see its script: all models compared have to fit."""


def prepare_serving() -> None:
    """Install what our servers need beside vLLM, unless that is done."""
    needs = list(_needs())
    stamp = folder_of(PEERS["vllm"]) / "ready-to-serve"
    if stamp.is_file() and stamp.read_text() == "\n".join(needs):
        return
    installed(folder_of(PEERS["vllm"]), needs)
    stamp.write_text("\n".join(needs))


def serving_python(folder: Path) -> OtherPython:
    """What runs a target server of this very code. folder: of this run, for links to the code."""
    code = folder / "code"
    code.mkdir()
    for package in SERVED:
        path = Path(str(package.__file__)).parent
        (code / path.name).symlink_to(path)
    python = vllm_python(folder_of(PEERS["vllm"]) / "bin" / "python")
    more = {"PYTHONPATH": str(code), "PACELINE_TARGET_VLLM_ARGUMENTS": VLLM_ARGUMENTS}
    return replace(python, variables={**python.variables, **more})


def _needs() -> Iterator[str]:
    """What paceline requires, without its extras."""
    try:
        needs = requires("paceline") or []
    except PackageNotFoundError:
        raise FailedPrecondition("paceline is not installed; run: pip install .") from None
    return (need for need in needs if "extra ==" not in need)
