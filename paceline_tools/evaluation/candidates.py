"""Candidates: what may draft for a target, as people name it. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, cast

from paceline.errors import InvalidArgument

Weights = Literal["bf16", "int8", "int4"]
WEIGHTS: tuple[Weights, ...] = ("bf16", "int8", "int4")
GRAMMAR = "[NAME=]MODEL[:WEIGHTS], [NAME=]hybrid:MODEL[:WEIGHTS] or [NAME=]ngram"
_NAME = re.compile(r"(\w[\w.-]*)=(.*)")
_PARAMETER = re.compile(rf"\w+=[\d./]+(:({'|'.join(WEIGHTS)}))?")
"""What a simulated model's name goes on with behind a comma; no model is called a number."""


@dataclass(frozen=True, slots=True)
class DraftCandidate:
    """One candidate. drafter: as of a draft server. model: empty for lookup alone."""

    name: str
    drafter: Literal["model", "ngram", "hybrid"]
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
    found = [_parse(spec) for spec in specs]
    for name in (one.name for one in found):
        if sum(one.name == name for one in found) > 1:
            raise InvalidArgument.of("--candidate", name, "a name that no other candidate has")
    return found


def _parse(text: str) -> DraftCandidate:
    named = _NAME.fullmatch(text)
    name, spec = named.groups() if named else ("", text)
    if spec == "ngram":
        return DraftCandidate(name or spec, "ngram")
    model = spec.removeprefix("hybrid:")
    drafter: Literal["model", "hybrid"] = "model" if model == spec else "hybrid"
    before, _, last = model.rpartition(":")
    weights = cast("Weights", last) if last in WEIGHTS else "int4"
    model = before if last in WEIGHTS else model
    if not model:
        raise InvalidArgument.of("--candidate", text, GRAMMAR)
    return DraftCandidate(name or _name_of(spec), drafter, model, weights)


def _name_of(spec: str) -> str:
    """A name for a spec without one: paths by their last part."""
    model = spec.removeprefix("hybrid:")
    return spec.removesuffix(model) + PurePath(model).name
