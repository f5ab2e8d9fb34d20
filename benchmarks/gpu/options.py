"""What the parts are told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """device: of the targets. folder: for pairs. tokens: of an output; steps: that are timed."""

    device: str
    folder: Path
    tokens: int
    prompt_tokens: int
    steps: int
    probe_positions: int

    @classmethod
    def of(cls, device: str, folder: Path, *, tiny: bool) -> "GpuOptions":
        """For a day, or for a test of it."""
        if tiny:
            return cls(device, folder, 24, 40, 5, 128)
        return cls(device, folder, 96, 256, 40, 4096)
