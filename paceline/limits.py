"""What pydantic says of a value that cannot be, as our errors say it: "it must be ...". Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from paceline.nearest import did_you_mean

_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_OVER = {
    "greater_than_equal": "ge",
    "greater_than": "gt",
    "less_than_equal": "le",
    "less_than": "lt",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number",
    "bool": "yes or no",
    "string": "a text",
    "path": "a path",
    "list": "a list",
    "dict": "a mapping",
}
_SAID = re.compile(r"(?:Value error, )?(?:Input should be|(?:it )?must be) ")
_QUOTED = re.compile(r"'([^']*)'")
_WORDS = re.compile(r"\^\(([\w|]+)\)\$")
"""A pattern that is a choice of words."""


def told(problem: Mapping[str, Any], metadata: Iterable[object] = ()) -> str:
    """How an error goes on behind "X is VALUE": the limit, else what was said of it.

    problem: of ValidationError.errors(). metadata: of the field, which has its whole range.
    """
    limit = _limit(problem, _bounds(metadata))
    if limit:
        return f"; it must be {limit}"
    said = str(problem["msg"])
    if begins := _SAID.match(said):
        return f"; it must be {said[begins.end() :]}"
    return f": {said.removeprefix('Value error, ')}"


def _limit(problem: Mapping[str, Any], bounds: Mapping[str, Any]) -> str:
    """In words; empty where the problem is none of these."""
    kind, context = str(problem["type"]), problem.get("ctx") or {}
    if bound := _OVER.get(kind):
        return _range(bounds) or f"{_BOUNDS[bound]} {_number(context[bound])}"
    if kind == "literal_error":
        return _one_of(problem["input"], _QUOTED.findall(context["expected"]))
    if words := _WORDS.fullmatch(str(context.get("pattern", ""))):
        return _one_of(problem["input"], words[1].split("|"))
    if kind in {"too_short", "too_long", "string_too_short", "string_too_long"}:
        is_text = kind.startswith("string") or isinstance(problem["loc"][-1], int)
        return _length("characters" if is_text else "of them", context)
    return _kind(kind, bounds)


def _bounds(metadata: Iterable[object]) -> dict[str, Any]:
    pairs = ((name, getattr(one, name, None)) for one in metadata for name in _BOUNDS)
    return {name: value for name, value in pairs if value is not None}


def _kind(kind: str, bounds: Mapping[str, Any]) -> str:
    for name, words in _KINDS.items():
        if kind == name or kind.startswith(f"{name}_"):
            return " ".join(filter(None, (words, _range(bounds))))
    return ""


def _range(bounds: Mapping[str, Any]) -> str:
    """Of a number: from 1 to 65000; empty where it has none."""
    if bounds.keys() == {"ge", "le"}:
        return f"from {_number(bounds['ge'])} to {_number(bounds['le'])}"
    said = (f"{words} {_number(bounds[at])}" for at, words in _BOUNDS.items() if at in bounds)
    return " and ".join(said)


def _number(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _one_of(value: object, words: list[str]) -> str:
    return f"one of {', '.join(words)}{did_you_mean(value, words)}"


def _length(of: str, context: Mapping[str, Any]) -> str:
    if "min_length" not in context:
        return f"at most {context['max_length']} {of}"
    if context["min_length"] == 1:
        return "a text that is not empty" if of == "characters" else "at least one"
    return f"at least {context['min_length']} {of}"
