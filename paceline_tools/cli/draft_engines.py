"""What was measured of drafts on this machine, and which engine they got by it."""

from paceline.engine.openvino.measurements import Conditions, Measured, all_notes
from paceline_tools.cli.findings import Finding, Level


def draft_engines() -> list[Finding]:
    """A line for each draft that was measured here, with so many threads."""
    return [
        Finding(Level.OK, "draft", f"{name}, {_measured(where, found)}")
        for name, where, found in all_notes()
    ]


def _measured(where: Conditions, found: Measured) -> str:
    chosen = "OpenVINO" if found.is_quicker else "our own engine"
    steps = f"{_ms(found.openvino)} a step of 1 and 4 sessions with OpenVINO"
    return f"{where.threads} threads: {chosen} is quicker here, {steps}, {_ms(found.own)} with ours"


def _ms(seconds: tuple[float, ...]) -> str:
    return " and ".join(f"{one * 1e3:.1f}" for one in seconds) + " ms"
