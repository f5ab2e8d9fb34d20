import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import paceline
from paceline.errors import FailedPrecondition, Unavailable
from paceline_tools.bench.others import answering
from paceline_tools.bench.peers import environments
from paceline_tools.bench.peers.environments import (
    command_of,
    folder_of,
    path_of,
    prepare,
    variables_of,
)
from paceline_tools.bench.peers.registry import PEERS, PeerName, Weights, variants_of
from paceline_tools.bench.peers.serving import prepare_serving, serving_python
from paceline_tools.bench.report import Report
from paceline_tools.bench.samples import Prompt, Sample
from paceline_tools.other_python import OPENMP

SCRIPTS = Path(environments.__file__).parent / "peer-scripts"
ECHO = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import contextlib
from answering import serve

@contextlib.contextmanager
def loaded(options):
    print("loading", options.target)
    yield lambda ids, count: ((ids * count)[:count], [0.5] * count)
    print("ended")

serve("A peer that repeats.", ("alone",), loaded)
"""
FLAGS = ("--mode=alone", "--target=t", "--draft=d", "--threads=1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path))
    return tmp_path


def test_each_name_has_a_peer_and_each_peer_a_script() -> None:
    assert variants_of(get_args(PeerName)) == list(PEERS)
    assert all((SCRIPTS / peer.script).is_file() for peer in PEERS.values())


async def test_what_a_peer_prints_is_no_answer() -> None:
    command = [sys.executable, "-c", ECHO, str(SCRIPTS), *FLAGS]
    async with answering("echo", command) as process:
        answer = await process.ask({"token_ids": [3, 4], "max_tokens": 3})
    assert answer == {"token_ids": [3, 4, 3], "seconds": [0.5, 0.5, 0.5]}


async def test_a_peer_that_ends_is_told_with_its_last_words() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with pytest.raises(Unavailable, match=r"^vllm exited with 1; its last words: no such model$"):
        async with answering("vllm", command):
            pass


async def test_a_peer_that_the_kernel_kills_is_told_with_what_may_be_the_reason() -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    told = r"^openvino was killed by SIGKILL, perhaps as memory ran out; its last words: none$"
    with pytest.raises(Unavailable, match=told):
        async with answering("openvino", command):
            pass


def test_an_environment_is_made_once_and_anew_for_another_release(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(*command: str, python_path: str = "") -> None:
        assert not python_path
        ran.append(" ".join(command))
        folder_of(PEERS["openvino"]).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "_weights", lambda *_: None)
    prepare(["openvino", "openvino_draft"], [home])
    assert [one for one in ran if "openvino" in one and " install " in one] == [
        f"{home}/peers/openvino/bin/python -m pip --disable-pip-version-check install "
        "openvino-genai==2026.4.1.0"
    ]
    ran.clear()
    prepare(["openvino_draft"], [home])
    assert ran == []
    (folder_of(PEERS["openvino"]) / "ready").write_text("openvino-genai==2025.1")
    prepare(["openvino"], [home])
    assert ran[0] == f"{sys.executable} -m venv {home}/peers/openvino"


def test_what_cannot_be_installed_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **_: object) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.CompletedProcess(command, 1, b"ERROR: no matching distribution\n")

    monkeypatch.setattr(subprocess, "run", run)
    match = r"-m venv .*/peers/openvino ended with 1: ERROR: no matching distribution$"
    with pytest.raises(FailedPrecondition, match=match):
        prepare(["openvino"], [home])


def test_llama_cpp_says_what_it_is_built_with(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FailedPrecondition, match="needs cmake: install it"):
        prepare(["llama_cpp"], [home])


def test_a_peer_is_run_by_its_own_python_with_the_weights_it_reads(home: Path) -> None:
    models = [Path("/m/big"), Path("/m/small")]
    command = command_of(PEERS["openvino_draft"], models, 2, "bfloat16")
    assert command == [
        f"{home}/peers/openvino/bin/python",
        f"{SCRIPTS}/run_openvino.py",
        "--mode=draft",
        "--threads=2",
        f"--target={home}/peers/models/big.f16",
        f"--draft={home}/peers/models/small.f16",
        "--dtype=bfloat16",
    ]
    gguf = f"--target={home}/peers/models/big.bf16/model.gguf"
    assert gguf in command_of(PEERS["llama_cpp"], models, 2, "bfloat16")
    assert "--target=/m/big" in command_of(PEERS["vllm"], models, 2, "bfloat16")
    assert path_of(PEERS["llama_cpp"]).startswith(f"{home}/peers/llama_cpp/bin:")
    assert PEERS["llama_cpp"].weights is Weights.GGUF


def test_a_target_on_vllm_is_of_the_code_that_runs_here(home: Path, tmp_path: Path) -> None:
    python = serving_python(tmp_path)
    assert python.path == f"{home}/peers/vllm/bin/python"
    said = python.variables["PACELINE_TARGET_VLLM_ARGUMENTS"]
    assert said == '{"kv_cache_memory_bytes": 536870912, "max_model_len": 4096}'
    code = Path(python.variables["PYTHONPATH"])
    assert {one.name for one in code.iterdir()} == {"paceline", "target_server"}
    assert (code / "paceline").resolve() == Path(paceline.__file__).parent.resolve()


async def test_the_peer_vllm_has_the_openmp_of_a_target_on_vllm(home: Path) -> None:
    openmp = folder_of(PEERS["vllm"]) / OPENMP
    openmp.parent.mkdir(parents=True)
    openmp.touch()
    assert variables_of(PEERS["vllm_draft"])["LD_PRELOAD"].endswith(str(openmp))
    assert variables_of(PEERS["openvino"]) == {}
    command = [sys.executable, "-c", "import os, sys; sys.exit(os.environ['SAID'])"]
    with pytest.raises(Unavailable, match=r"its last words: yes$"):
        async with answering("vllm", command, variables={"SAID": "yes"}):
            pass


def test_what_our_server_needs_is_installed_once_into_the_environment_of_vllm(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(environments, "_run", lambda *command: ran.append(command))
    folder_of(PEERS["vllm"]).mkdir(parents=True)
    prepare_serving()
    prepare_serving()
    [command] = ran
    assert command[0] == f"{home}/peers/vllm/bin/python"
    assert any(one.startswith("grpcio>=") for one in command)
    assert not any("torch" in one or "extra" in one for one in command)


def test_our_speed_is_told_as_a_multiple_of_each_peers() -> None:
    prompt = Prompt("code", "x")
    samples = (
        Sample("paceline_model", prompt, (1, 2), (0.5, 1.0)),
        Sample("vllm", prompt, (1, 2), (1.0, 4.0)),
    )
    found = Report(samples, "paceline_model").ratios()
    assert json.loads(json.dumps(found["speculative_vs_vllm"]["all"].ratio)) == pytest.approx(4.0)
    assert "speculative_vs_openvino" not in found
