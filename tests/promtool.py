"""Prometheus's own check of rules and metrics, where it is installed; in CI it has to be."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str | Path, said: bytes = b"") -> None:
    """Run it, with `said` on its standard input; fails saying what it found."""
    tool = shutil.which("promtool")
    if tool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: install the package prometheus")
        pytest.skip("promtool is missing: install the package prometheus to check the alerts")
    command = [tool, *arguments]
    found = subprocess.run(command, check=False, capture_output=True, input=said, timeout=60)
    assert found.returncode == 0, (found.stdout + found.stderr).decode()
