"""Candidates: what may draft for a target, as people name it. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from draft_server.drafters.registry import DRAFTERS, MODEL, DrafterName
from paceline.errors import InvalidArgument
from paceline.nearest import nearest

Weights = Literal["bf16", "int8", "int4"]
WEIGHTS: tuple[Weights, ...] = ("bf16", "int8", "int4")
_WITH_MODEL = [name for name, kind in DRAFTERS.items() if kind.needs_model and name != MODEL]
_WITHOUT_MODEL = [name for name, kind in DRAFTERS.items() if not kind.needs_model]
_FORMS = ["MODEL[:WEIGHTS]", *(f"{name}:MODEL[:WEIGHTS]" for name in _WITH_MODEL), *_WITHOUT_MODEL]
GRAMMAR = " or ".join(", ".join(f"[NAME=]{form}" for form in _FORMS).rsplit(", ", 1))
_NAME = re.compile(r"(\w[\w.-]*)=(.*)")
_PARAMETER = re.compile(rf"\w+=[\d./]+(:({'|'.join(WEIGHTS)}))?")
"""What a simulated model's name goes on with behind a comma; no model is called a number."""


@dataclass(frozen=True, slots=True)
class DraftCandidate:
    """One candidate. drafter: as of a draft server. model: empty for lookup alone."""

    name: str
    drafter: DrafterName
    model: str = ""
    weights: Weights = "int4"


def parse_candidates(parts: Iterable[str]) -> list[DraftCandidate]:
    """Candidates of a flag's values, which were split at commas; InvalidArgument if one is wrong.

    A simulated model's name has commas of its own: a part like token_ms=0.1 goes on with the one
    before it.
    """
    specs: list[str] = []
    for part in parts:
        if specs and _PARAMETER.fullmatch(part):
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    found = [parse_candidate(spec) for spec in specs]
    for name in (one.name for one in found):
        if sum(one.name == name for one in found) > 1:
            raise InvalidArgument.of("--candidate", name, "a name that no other candidate has")
    return found


def parse_candidate(text: str, flag: str = "--candidate") -> DraftCandidate:
    """A candidate; InvalidArgument, naming the flag, where it is none."""
    named = _NAME.fullmatch(text)
    name, spec = named.groups() if named else ("", text)
    if spec in _WITHOUT_MODEL:
        return DraftCandidate(name or spec, spec)
    drafter, model = _drafter_and_model(spec)
    before, _, last = model.rpartition(":")
    weights = last if last in WEIGHTS else "int4"
    model = before if last in WEIGHTS else model
    if before and last not in WEIGHTS and nearest(last, WEIGHTS):
        limit = f"one of {', '.join(WEIGHTS)}"
        raise InvalidArgument.of(f"the weights in {flag} {text}", last, limit)
    if not model:
        raise InvalidArgument.of(flag, text, GRAMMAR)
    return DraftCandidate(name or _name_of(spec), drafter, model, weights)


def _drafter_and_model(spec: str) -> tuple[DrafterName, str]:
    """The drafter that a spec begins with, and the rest of it; a model alone drafts by itself."""
    before, _, rest = spec.partition(":")
    return (before, rest) if before in _WITH_MODEL else (MODEL, spec)


def _name_of(spec: str) -> str:
    """A name for a spec without one: paths by their last part."""
    _, model = _drafter_and_model(spec)
    return spec.removesuffix(model) + PurePath(model).name
