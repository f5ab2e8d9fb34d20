"""What was measured of a draft on this machine, kept beside the prepared draft."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paceline.catalog import home
from paceline.engine.drafts.engines import TORCH, possible
from paceline.engine.prepared.draft_file import FORMAT

SESSIONS = (1, 4)
"""In a step that is measured: alone a session waits for weights, with others for arithmetic."""


LESS_RIGHT = 0.03
"""The share of tokens by which a quicker engine may be right less often than TORCH in 4 bits."""
LESS_RIGHT_THAN_WHOLE = 0.25
"""The same where TORCH has whole weights, as 4 bits cost some: 9 to 22 points were measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A draft by one of the engines, in turn with the others, on this machine.

    seconds: of a step of so many SESSIONS. right: the share of tokens of a text that are first with
    the weights in 4 bits and in bfloat16 alike.
    """

    seconds: tuple[float, ...]
    right: float

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Measured":
        """What asdict made."""
        return cls(tuple(found["seconds"]), found["right"])

    def __str__(self) -> str:
        """In words."""
        steps = " and ".join(f"{one * 1e3:.1f}" for one in self.seconds)
        return f"{steps} ms ({self.right:.0%} right)"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The engines of a draft, by name: TORCH and others, or none where only TORCH runs it.

    refused: why others do not run it, or how they failed. whole: whether TORCH has no weights in 4
    bits, for which this CPU may lack what it needs; they are slow then.
    """

    engines: Mapping[str, Measured]
    refused: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False

    @property
    def best(self) -> str:
        """The quickest of those that are right about as often as TORCH, as 4 bits have it."""
        if not self.engines:
            return TORCH
        less = LESS_RIGHT_THAN_WHOLE if self.whole else LESS_RIGHT
        least = self.engines[TORCH].right - less
        right = [name for name, found in self.engines.items() if found.right >= least]
        return min(right, key=lambda name: sum(self.engines[name].seconds))

    def __str__(self) -> str:
        """In words."""
        refused = [f"not {name}: {reason}" for name, reason in self.refused.items()]
        return "; ".join([*self._steps(), *refused])

    def _steps(self) -> list[str]:
        if not self.engines:
            return []
        sessions = " and ".join(map(str, SESSIONS))
        found = ", ".join(f"{one} with {name}" for name, one in self.engines.items())
        return [f"a step of {sessions} sessions takes {found}"]

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Comparison":
        """What asdict made."""
        engines = {name: Measured.of_json(one) for name, one in found["engines"].items()}
        return cls(engines, found["refused"], found.get("whole", False))


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a measurement holds for; home folders may be of several machines."""

    host: str
    threads: int
    releases: str

    @classmethod
    def here(cls, threads: int) -> "Conditions":
        """Those of this machine, with so many threads."""
        engines = [(engine.name, engine.release()) for engine in possible()]
        said = [f"{name} {release}" for name, release in (*engines, (TORCH, version(TORCH)))]
        return cls(platform.node(), threads, ", ".join(said))


Notes = dict[Conditions, Comparison]


def drafts_folder() -> Path:
    """Where prepared drafts are kept."""
    return home() / "drafts"


def prepared_file(folder: Path, engine: str) -> Path:
    """Where a folder's draft is, or will be, as an engine has it."""
    return drafts_folder() / f"{_name(folder)}.{engine}.safetensors"


def notes_file(folder: Path) -> Path:
    """Where is, or will be, what was measured of a folder's draft."""
    return drafts_folder() / f"{_name(folder)}.json"


def _name(folder: Path) -> str:
    """Another one when its files change."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    states = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    key = hashlib.sha256(f"{FORMAT} {folder.resolve()} {states}".encode()).hexdigest()[:8]
    return f"{folder.name}-{key}"


def read_notes(notes: Path) -> Notes:
    """What was measured of a draft; nothing where it never was, or by another release."""
    said = json.loads(notes.read_text()) if notes.exists() else None
    if not isinstance(said, dict) or said["format"] != FORMAT:
        return {}
    return {Conditions(**one["where"]): Comparison.of_json(one["found"]) for one in said["notes"]}


def write_notes(notes: Path, known: Notes) -> None:
    """Keep them, whole or not at all."""
    found = [{"where": asdict(where), "found": asdict(one)} for where, one in known.items()]
    notes.parent.mkdir(parents=True, exist_ok=True)
    written = notes.with_name(f".{notes.name}-{platform.node()}")
    written.write_text(json.dumps({"format": FORMAT, "notes": found}, indent=1))
    written.replace(notes)


def all_notes() -> Iterator[tuple[str, Conditions, Comparison]]:
    """Of all drafts measured on this machine: the model folder's name first."""
    for notes in sorted(drafts_folder().glob("*.json")):
        for where, found in read_notes(notes).items():
            if where.host == platform.node():
                yield notes.stem.rpartition("-")[0], where, found
