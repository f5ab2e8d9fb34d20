"""What stops a server is said in full, but for what may quote a call once there were some."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.model_folders import model_folder_of, write_json
from tests.tiny_models import tiny_model

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


def truncated(folder: Path) -> str:
    path = model_folder_of(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return f"{path} is truncated: it has 131 bytes of 132; fetch it again"


def contradicted(folder: Path) -> str:
    config = json.loads((tiny_model(folder) / "config.json").read_text())
    write_json(folder / "config.json", {**config, "num_hidden_layers": 3})
    return (
        f"{folder}/config.json does not fit: num_hidden_layers is 3; it must be 2, as there are "
        "weights of so many layers"
    )


def misshapen(folder: Path) -> str:
    path = tiny_model(folder) / "model.safetensors"
    weights = load_file(path)
    name = "model.layers.0.self_attn.o_proj.weight"
    save_file({**weights, name: weights[name][:8].contiguous()}, path, {"format": "pt"})
    return f"the weights do not fit: {name} has shape (8, 64) instead of (64, 64)"


def missing(folder: Path) -> str:
    config = json.loads((tiny_model(folder) / "config.json").read_text())
    write_json(folder / "config.json", {**config, "mlp_bias": True})
    return "the weights lack tensors: model.layers.0.mlp.down_proj.bias, "


def unknown(folder: Path) -> str:
    config = json.loads((tiny_model(folder) / "config.json").read_text())
    write_json(folder / "config.json", {**config, "hidden_act": "nope"})
    return (
        "model type 'llama' cannot be loaded: its files name 'nope', which transformers does "
        "not know, or lack it"
    )


def absent(folder: Path) -> str:
    return f"'{folder}' does not exist"


MODULES = ("target_server", "draft_server")


@pytest.mark.parametrize("spoil", [absent, truncated, contradicted, misshapen, missing, unknown])
def test_a_model_that_cannot_be_served_is_one_line(
    spoil: Callable[[Path], str], tmp_path: Path
) -> None:
    reason = spoil(tmp_path / "model")
    for module in MODULES if spoil in {absent, truncated, contradicted} else MODULES[:1]:
        ports = ["--port=0", "--health-port=0", "--metrics-port=0", "--host=127.0.0.1"]
        command = [sys.executable, "-m", module, f"--model={tmp_path / 'model'}", *ports]
        process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        lines = map(json.loads, (process.stdout + process.stderr).splitlines())
        [said] = [line for line in lines if line["event"] != "loading"]
        assert (process.returncode, said["event"]) == (2, "stopped")
        assert said["reason"].startswith(reason)
        assert "exception" not in said
