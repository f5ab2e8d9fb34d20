"""What was measured of a draft's step on this machine, kept beside the prepared draft."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from paceline.catalog import home
from paceline.engine.openvino.prepared import FORMAT

SESSIONS = (1, 4)
"""In a step that is measured: alone a session waits for weights, with others for arithmetic."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a draft step by engine, in turn, of so many SESSIONS; the quicker one is used."""

    own: tuple[float, ...]
    openvino: tuple[float, ...]

    @property
    def is_quicker(self) -> bool:
        """Whether OpenVINO is, all steps together."""
        return sum(self.openvino) < sum(self.own)

    def as_json(self) -> dict[str, list[float]]:
        """As of_json takes it."""
        return {"own": [*self.own], "openvino": [*self.openvino]}

    @classmethod
    def of_json(cls, found: Mapping[str, Sequence[float]]) -> "Measured":
        """What was written."""
        return cls(tuple(found["own"]), tuple(found["openvino"]))


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


Notes = dict[Conditions, Measured]


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
    """What was measured of a prepared draft; nothing where it never was."""
    notes = file.with_suffix(".json")
    if not notes.exists():
        return {}
    return {
        Conditions(**one["where"]): Measured.of_json(one["seconds"])
        for one in json.loads(notes.read_text())
    }


def write_notes(file: Path, notes: Mapping[Conditions, Measured]) -> None:
    """Keep them, whole or not at all."""
    said = [{"where": asdict(where), "seconds": one.as_json()} for where, one in notes.items()]
    written = file.with_name(f".{file.stem}.json")
    written.write_text(json.dumps(said, indent=1))
    written.replace(file.with_suffix(".json"))


def all_notes() -> Iterator[tuple[str, Conditions, Measured]]:
    """Of all drafts measured on this machine: the model folder's name first."""
    for notes in sorted(drafts_folder().glob("*.json")):
        for where, found in read_notes(notes).items():
            if where.host == platform.node():
                yield notes.stem.rpartition("-")[0], where, found
