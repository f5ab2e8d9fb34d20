"""What computes a model's rows, and what decides tokens where they are not exact. Pure."""

from dataclasses import dataclass

from paceline.protocol.model import ModelInfo
from paceline_tools.cli.findings import Finding, Level

_VLLM = "vllm"
MAY_DECIDE = (
    "where two tokens are nearly as good, drafts, load, the prefix cache and failover may decide"
)


@dataclass(frozen=True, slots=True)
class VllmNumbers:
    """What the fingerprint of a target on vLLM names: the release, and what rows are in."""

    release: str
    dtype: str

    @classmethod
    def of(cls, model: ModelInfo) -> "VllmNumbers | None":
        """None for another engine: our own names none in its fingerprints."""
        parts = model.fingerprint.split("-")
        if parts[0] != _VLLM or len(parts) < 3:
            return None
        return cls(parts[1], parts[2])


def engine(model: ModelInfo) -> str:
    """Words behind the model's name; empty for our own engine."""
    found = VllmNumbers.of(model)
    return f" on vLLM {found.release} in {found.dtype}" if found else ""


def exactness(subject: str, model: ModelInfo) -> Finding:
    """Of a target whose rows are not exact."""
    found = VllmNumbers.of(model)
    why, advice = "", MAY_DECIDE
    if found:
        why = f", as vLLM {found.release} rounds a row by what is computed beside it"
    if found and found.dtype != "float32":
        advice += (
            "; --dtype float32 gave equal tokens where it was tried, and costs speed and memory"
        )
    what = f"its rows are not exact{why}: outputs are equal up to floating point"
    return Finding(Level.NOTE, subject, what, advice)
