"""What stops a server is said in full, but for what may quote a call once there were some."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
from orchestrator.settings import OrchestratorSettings
from paceline.rpc.server import run_process
from paceline.settings import parse

class Service:
    def register(self, server):
        raise ValueError("tulips")

async def load(registry):
    if {loads}:
        return Service()
    raise ValueError("tulips")

run_process(parse(OrchestratorSettings), (), load, public=True)
"""
FLAGS = ["--target=unix:/nowhere", "--port=0", "--health-port=0", "--metrics-port=0"]


@pytest.mark.parametrize("loads", [False, True])
def test_what_stops_a_server_is_said(loads: bool) -> None:
    command = [sys.executable, "-c", PROGRAM.format(loads=loads), "--host=127.0.0.1", *FLAGS]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = json.loads(process.stderr.splitlines()[-1])
    assert (process.returncode, said["event"]) == (1, "stopped")
    assert said["exception"][0]["type"] == "ValueError"
    assert ("tulips" in process.stderr) is not loads
