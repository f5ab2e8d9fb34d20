"""Constraints as llguidance takes them; what is wrong with one, by its place. Pure."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from llguidance import LLMatcher, StructTag
from llguidance.gbnf_to_lark import gbnf_to_lark

from paceline.errors import InvalidArgument, in_a_line
from paceline.protocol.constraint import Constraint, ConstraintKind

MAX_MULTIPLE_OF = 10_000
"""A whole multipleOf costs an automaton of so many states: seconds of compiling at 100,000."""
_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,20}"
"""Between the parts of JSON: bounded, as a model may write blanks without end."""
_VALUES = frozenset({"const", "enum", "default", "examples"})
_NAMED = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
_KEYWORDS = (
    (re.compile(r"Unimplemented keys: \[\"([^\"]+)\""), None),
    (re.compile(r"^oneOf constraints"), "oneOf"),
    (re.compile(r"^Unknown format"), "format"),
    (re.compile(r"^patternProperty regexes"), "patternProperties"),
    (re.compile(r"^(Resource|Anchor|Pointer) "), "$ref"),
    (re.compile(r"[Ff]or '(\w+)'"), None),
)
"""Of what the library says, which keyword it speaks of."""


def grammar_source(constraint: Constraint) -> str:
    """The grammar for llguidance; InvalidArgument says what is wrong with the constraint."""
    try:
        return _SOURCES[constraint.kind](constraint)
    except RecursionError as error:
        raise wrong(constraint, "it is nested too deeply") from error
    except Exception as error:  # the libraries raise bare ones
        raise wrong(constraint, in_a_line(error, kind=False)) from error


def wrong(constraint: Constraint, reason: str) -> InvalidArgument:
    """The error for what a library says of it: names the field, and of a schema the keyword."""
    reason = in_a_line(ValueError(reason.partition("<state>")[0]), kind=False)
    if "NoExtensionBias" in reason:
        reason = "no output can ever meet it"
    reason = reason.partition(". Enable 'coerce_one_of'")[0]
    if constraint.kind is ConstraintKind.JSON_SCHEMA and (place := _place(constraint, reason)):
        reason = f"{place}: {reason}"
    return InvalidArgument(f"sampling.constraint.{constraint.kind.value}: {reason}")


def _place(constraint: Constraint, reason: str) -> str:
    """JSON pointer to the keyword that `reason` speaks of; empty where it speaks of none.

    One that is not in the schema is in what it refers to, as the schema of schemas.
    """
    keyword = _keyword(reason)
    value = reason.partition("Unknown format: ")[2]
    for sought in (keyword, "$ref", "$schema") if keyword else ():
        for pointer, schema in _schemas(json.loads(constraint.text)):
            if sought in schema and (sought != "format" or schema[sought] == value):
                return f"{pointer}/{sought}"
    return ""


def _keyword(reason: str) -> str:
    for pattern, keyword in _KEYWORDS:
        if found := pattern.search(reason):
            return keyword or found[1]
    return ""


def _schemas(schema: Any, pointer: str = "#", named: bool = False) -> Iterator[tuple[str, Any]]:
    """A schema and all in it, each with its JSON pointer. named: its keys are names of schemas."""
    if isinstance(schema, dict):
        if not named:
            yield pointer, schema
        for key, value in schema.items():
            if named or key not in _VALUES:
                escaped = key.replace("~", "~0").replace("/", "~1")
                yield from _schemas(value, f"{pointer}/{escaped}", not named and key in _NAMED)
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _schemas(value, f"{pointer}/{index}")


def _json_schema(constraint: Constraint) -> str:
    for pointer, schema in _schemas(json.loads(constraint.text)):
        multiple = schema.get("multipleOf")
        if isinstance(multiple, int | float) and multiple > MAX_MULTIPLE_OF:
            raise ValueError(f"{pointer}/multipleOf is {multiple}, over {MAX_MULTIPLE_OF}")
    return LLMatcher.grammar_from_json_schema(
        constraint.text, overrides={"whitespace_pattern": _WHITESPACE}
    )


def _regex(constraint: Constraint) -> str:
    text = constraint.text
    if (len(text) - len(text.rstrip("\\"))) % 2:  # the library would leave it out
        raise ValueError("it ends with a backslash that escapes nothing")
    return LLMatcher.grammar_from_regex(text)


def _choice(constraint: Constraint) -> str:
    return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, constraint.options)))


def _grammar(constraint: Constraint) -> str:
    """Lark, or the EBNF of llama.cpp and vLLM, which has ::= in its rules."""
    text = gbnf_to_lark(constraint.text) if "::=" in constraint.text else constraint.text
    return LLMatcher.grammar_from_lark(text)


def _structural_tag(constraint: Constraint) -> str:
    """JSON of triggers and structures, as vLLM takes it."""
    said = json.loads(constraint.text)
    if not (isinstance(said, dict) and {"triggers", "structures"} <= said.keys()):
        raise ValueError("it must be a JSON object of triggers and structures")
    return StructTag.to_grammar([_tag(tag, said["triggers"]) for tag in said["structures"]])


def _tag(tag: dict[str, Any], triggers: list[str]) -> StructTag:
    begin = tag["begin"]
    trigger = next((one for one in triggers if begin.startswith(one)), None)
    if trigger is None:
        raise ValueError(f"no trigger begins {begin!r}")
    return StructTag(trigger=trigger, begin=begin, grammar=tag["schema"], end=tag["end"])


_SOURCES: dict[ConstraintKind, Callable[[Constraint], str]] = {
    ConstraintKind.JSON_SCHEMA: _json_schema,
    ConstraintKind.REGEX: _regex,
    ConstraintKind.CHOICE: _choice,
    ConstraintKind.GRAMMAR: _grammar,
    ConstraintKind.STRUCTURAL_TAG: _structural_tag,
}
