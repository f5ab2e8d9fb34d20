"""Which servers `paceline up` starts: what each serves, under which name, at which ports."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from draft_server.drafters.registry import DRAFTERS, MODEL, DrafterName
from orchestrator.settings import DEFAULT_POOL, NO_DRAFT, is_pool_name
from paceline.engine.simulated import PREFIX, is_simulated
from paceline.errors import InvalidArgument
from paceline_tools.evaluation.candidates import WEIGHTS, Weights, parse_candidate

_NAMED = re.compile(r"(\w[\w.-]*)=(.*)")


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target server. served_as: the name that clients ask for; empty: the model's own."""

    model: str
    served_as: str = ""


@dataclass(frozen=True, slots=True)
class PlannedDraft:
    """A draft server. model: empty where it only looks up."""

    pool: str
    drafter: DrafterName
    model: str
    weights: Weights


def plan_targets(specs: Sequence[str], model_name: str) -> list[PlannedTarget]:
    """Of [NAME=]MODEL each; raises InvalidArgument for one name of two models."""
    targets = [_target(spec, model_name) for spec in specs]
    models: dict[str, str] = {}
    for one in targets:
        name = one.served_as or (PREFIX if is_simulated(one.model) else Path(one.model).name)
        if models.setdefault(name, one.model) != one.model:
            limit = f"named: two models are called {name!r}; give --target NAME=MODEL"
            raise InvalidArgument.of("--target", one.model, limit)
    return targets


def _target(spec: str, model_name: str) -> PlannedTarget:
    named = _NAMED.fullmatch(spec)
    if named and not Path(spec).exists():
        return PlannedTarget(named[2], named[1])
    return PlannedTarget(spec, model_name)


def plan_drafts(specs: Sequence[str], drafter: DrafterName, weights: Weights) -> list[PlannedDraft]:
    """Of [NAME=]MODEL[:WEIGHTS] each, or what else `evaluate` calls a candidate.

    Equal drafts of one name are one pool; raises InvalidArgument for two that are not.
    """
    if not DRAFTERS[drafter].needs_model and len(specs) <= 1:
        return [PlannedDraft(DEFAULT_POOL, drafter, "", weights)]
    if NO_DRAFT in specs and len(specs) > 1:
        raise InvalidArgument.of("--draft", NO_DRAFT, "given alone")
    drafts = [_draft(spec, drafter, weights) for spec in specs if spec != NO_DRAFT]
    pools: dict[str, PlannedDraft] = {}
    for one in drafts:
        if pools.setdefault(one.pool, one) != one:
            limit = f"named: two drafts are called {one.pool!r}; give --draft NAME=MODEL"
            raise InvalidArgument.of("--draft", one.model or one.drafter, limit)
    return drafts


def _draft(spec: str, drafter: DrafterName, weights: Weights) -> PlannedDraft:
    found = parse_candidate(spec, "--draft")
    named = _NAMED.fullmatch(spec)
    pool = named[1] if named else DEFAULT_POOL
    if not is_pool_name(pool):
        limit = "a small letter, then at most 62 of a-z, 0-9, - and _"
        raise InvalidArgument.of("the name in --draft", pool, limit)
    bare = found.drafter == MODEL
    own = spec.rpartition(":")[2] in WEIGHTS
    return PlannedDraft(
        pool, drafter if bare else found.drafter, found.model, found.weights if own else weights
    )


def labels(role: Literal["target", "draft"], names: Sequence[str]) -> Iterator[str]:
    """How servers are called on the screen: by their role, and what tells them apart."""
    if len(names) == 1:
        yield role if names[0] in {"", DEFAULT_POOL} else f"{role} {names[0]}"
        return
    for at, name in enumerate(names):
        apart = name or str(at + 1)
        yield f"{role} {apart}" if names.count(name) == 1 or not name else f"{role} {name}-{at + 1}"
