"""What was looked at, and how it is. Pure."""

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. advice: what to do; empty when nothing is."""

    level: Level
    subject: str
    what: str
    advice: str = ""
