"""What was measured of drafts on this machine, and which engine they got by it."""

from paceline.engine.drafts.measurements import Comparison, Conditions, all_notes
from paceline_tools.cli.findings import Finding, Level


def draft_engines() -> list[Finding]:
    """A line for each draft that was measured here, with so many threads."""
    return [
        Finding(Level.OK, "draft", f"{name}, {_measured(where, found)}")
        for name, where, found in all_notes()
    ]


def _measured(where: Conditions, found: Comparison) -> str:
    return f"{where.threads} threads, --engine auto takes {found.best}: {found}"
