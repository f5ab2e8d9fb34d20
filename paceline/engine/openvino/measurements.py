"""What was measured of a draft on this machine, kept beside the prepared draft."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paceline.catalog import home
from paceline.engine.openvino.prepared import FORMAT

SESSIONS = (1, 4)
"""In a step that is measured: alone a session waits for weights, with others for arithmetic."""


LESS_RIGHT = 0.03
"""The share of tokens by which a quicker engine may be right less often than the other."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A draft by either engine, in turn, on this machine.

    seconds: of a step of so many SESSIONS. right: the share of tokens of a text that are first with
    the weights in 4 bits and in bfloat16 alike.
    """

    seconds: tuple[float, ...]
    right: float

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Measured":
        """What asdict made."""
        return cls(tuple(found["seconds"]), found["right"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both engines of a draft."""

    own: Measured
    openvino: Measured

    @property
    def reason(self) -> str:
        """Why our own engine is used; empty where OpenVINO is."""
        if self.openvino.right < self.own.right - LESS_RIGHT:
            return "it is right more often"
        if sum(self.openvino.seconds) >= sum(self.own.seconds):
            return "it is quicker"
        return ""

    def __str__(self) -> str:
        """In words."""
        sessions = " and ".join(map(str, SESSIONS))
        steps = f"a step of {sessions} sessions takes {_ms(self.openvino)} with OpenVINO"
        right = f"{self.openvino.right:.0%} of tokens right, {self.own.right:.0%}"
        return f"{steps}, {_ms(self.own)} with ours; {right}"

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Comparison":
        """What asdict made."""
        return cls(Measured.of_json(found["own"]), Measured.of_json(found["openvino"]))


def _ms(measured: Measured) -> str:
    return " and ".join(f"{one * 1e3:.1f}" for one in measured.seconds) + " ms"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a measurement holds for; home folders may be of several machines."""

    host: str
    threads: int
    releases: str

    @classmethod
    def here(cls, threads: int) -> "Conditions":
        """Those of this machine, with so many threads."""
        releases = f"openvino {version('openvino')}, torch {version('torch')}"
        return cls(platform.node(), threads, releases)


Notes = dict[Conditions, Comparison]


def drafts_folder() -> Path:
    """Where prepared drafts are kept."""
    return home() / "drafts"


def prepared_file(folder: Path) -> Path:
    """Where a folder's prepared draft is, or will be: another one when its files change."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    states = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    key = hashlib.sha256(f"{FORMAT} {folder.resolve()} {states}".encode()).hexdigest()[:8]
    return drafts_folder() / f"{folder.name}-{key}.safetensors"


def read_notes(file: Path) -> Notes:
    """What was measured of a prepared draft; nothing where it never was, or by another release."""
    notes = file.with_suffix(".json")
    said = json.loads(notes.read_text()) if notes.exists() else None
    if not isinstance(said, dict) or said["format"] != FORMAT:
        return {}
    return {Conditions(**one["where"]): Comparison.of_json(one["found"]) for one in said["notes"]}


def write_notes(file: Path, notes: Mapping[Conditions, Comparison]) -> None:
    """Keep them, whole or not at all."""
    found = [{"where": asdict(where), "found": asdict(one)} for where, one in notes.items()]
    said = {"format": FORMAT, "notes": found}
    written = file.with_name(f".{file.stem}.json")
    written.write_text(json.dumps(said, indent=1))
    written.replace(file.with_suffix(".json"))


def all_notes() -> Iterator[tuple[str, Conditions, Comparison]]:
    """Of all drafts measured on this machine: the model folder's name first."""
    for notes in sorted(drafts_folder().glob("*.json")):
        for where, found in read_notes(notes).items():
            if where.host == platform.node():
                yield notes.stem.rpartition("-")[0], where, found
