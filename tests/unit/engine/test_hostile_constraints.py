"""Constraints made to hurt: each is refused by name, in bounded time, and stalls nobody else."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from paceline.engine import grammar as grammar_module
from paceline.engine.bounded_threads import BoundedThreads
from paceline.engine.grammar import Grammars, TokenGrammar
from paceline.engine.grammar_source import MAX_MULTIPLE_OF
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.constraint import Constraint, ConstraintKind, json_schema
from tests.tiny_models import EOS, VOCABULARY, byte_tokenizer

TOKENIZER = byte_tokenizer()
GRAMMARS = Grammars(TOKENIZER.to_str().encode(), VOCABULARY, (EOS,))
CHOICE = Constraint(ConstraintKind.CHOICE, options=("yes", "no"))


def regex(text: str) -> Constraint:
    return Constraint(ConstraintKind.REGEX, text)


def grammar(text: str) -> Constraint:
    return Constraint(ConstraintKind.GRAMMAR, text)


def tags(text: str) -> Constraint:
    return Constraint(ConstraintKind.STRUCTURAL_TAG, text)


def nested(depth: int) -> str:
    return '{"type": "array", "items": ' * depth + "{}" + "}" * depth


OBJECT = {"type": "object", "additionalProperties": False}
REFUSED = {
    "not JSON": (json_schema("{'a': 1}"), "enclosed in double quotes"),
    "a lone surrogate": (json_schema('{"const": "\\ud800"}'), "hex escape"),
    "a number beyond all": (json_schema('{"const": 1e999}'), "number out of range"),
    "no object": (json_schema("[1]"), "Expecting object schema"),
    "nothing allowed": (json_schema("false"), "Expecting object schema"),
    "deep": (json_schema(nested(900)), "recursion limit exceeded"),
    "deeper": (json_schema(nested(5000)), "nested too deeply"),
    "many properties": (
        json_schema(OBJECT | {"properties": {f"k{index}": {} for index in range(4000)}}),
        "items; max is 2000",
    ),
    "products of alternatives": (
        json_schema(
            {
                "allOf": [
                    {"anyOf": [{"properties": {f"{i}{j}": {}}} for j in range(6)]}
                    for i in range(12)
                ]
            }
        ),
        "schema too large",
    ),
    "a schema that is itself": (json_schema({"$ref": "#"}), "no output can ever meet it"),
    "schemas that are each other": (
        json_schema(
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            }
        ),
        "no output can ever meet it",
    ),
    "the network": (
        json_schema({"properties": {"a": {"$ref": "http://127.0.0.1:1/x.json"}}}),
        "json_schema: #/properties/a/$ref: Resource 'http://127.0.0.1:1/x.json' is not present",
    ),
    "a file": (json_schema({"$ref": "file:///etc/passwd"}), "does not fetch resources"),
    "limits that cross": (
        json_schema({"type": "integer", "minimum": 5, "maximum": 3}),
        "minimum (5) is greater than maximum (3)",
    ),
    "lengths that cross": (
        json_schema({"type": "string", "minLength": 5, "maxLength": 2}),
        "minLength (5) is greater than maxLength (2)",
    ),
    "two types": (
        json_schema({"allOf": [{"type": "integer"}, {"type": "string"}]}),
        "Unsatisfiable schema: incompatible types",
    ),
    "no value": (json_schema({"enum": []}), "Unsatisfiable schema: anyOf is empty"),
    "a property that is required and cannot be": (
        json_schema({"type": "object", "required": ["a"], "properties": {"a": False}}),
        "required property 'a' is unsatisfiable",
    ),
    "a pattern that is too short": (
        json_schema({"type": "string", "pattern": "^a$", "minLength": 3}),
        "Regex is empty",
    ),
    "a large multiple": (
        json_schema({"items": {"multipleOf": MAX_MULTIPLE_OF + 1}}),
        "json_schema: #/items/multipleOf is 10001, over 10000",
    ),
    "overlapping alternatives": (
        json_schema({"items": {"oneOf": [{"minimum": 1}, {"maximum": 3}]}}),
        "json_schema: #/items/oneOf: oneOf constraints are not supported",
    ),
    "a format": (
        json_schema({"a": {"format": "date"}, "properties": {"b/c": {"format": "regex"}}}),
        "json_schema: #/properties/b~1c/format: Unknown format: regex",
    ),
    "a property named as a keyword": (
        json_schema({"properties": {"not": {"type": "string"}, "a": {"not": {"type": "string"}}}}),
        'json_schema: #/properties/a/not: Unimplemented keys: ["not"]',
    ),
    "look-around": (regex("(?=a)b"), "look-around"),
    "a reference back": (regex(r"(a)\1"), "backreferences are not supported"),
    "half an escape": (regex("a\\"), "it ends with a backslash that escapes nothing"),
    "a class of nothing": (regex(r"[^\s\S]"), "no output can ever meet it"),
    "many repetitions": (regex("a{1000000}"), "too many expressions constructed"),
    "repetitions of repetitions": (regex("((a{1000}){1000}){1000}"), "too many expressions"),
    "a name of nothing": (grammar("start: a"), 'unknown name: "a"'),
    "a loop": (grammar("start: start"), "no output can ever meet it"),
    "no end": (grammar('start: a\na: a "x"'), "no output can ever meet it"),
    "lexer error": (grammar("%%%"), "lexer error"),
    "brackets": (grammar("start: " + "(" * 5000), "too deeply nested"),
    "brackets of another dialect": (
        grammar("root ::= " + "(" * 5000 + '"a"' + ")" * 5000),
        "it is nested too deeply",
    ),
    "a repeated rule": (grammar('start: "a"~1000000000'), "Too many items"),
    "tags of a list": (tags("[]"), "it must be a JSON object of triggers and structures"),
    "no tags": (tags('{"structures": [], "triggers": []}'), "must not be empty"),
    "no trigger": (
        tags('{"structures": [{"begin": "a", "schema": {}, "end": ""}], "triggers": ["b"]}'),
        "no trigger begins 'a'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name_and_in_a_line(name: str) -> None:
    constraint, said = REFUSED[name]
    with pytest.raises(InvalidArgument) as raised:
        GRAMMARS.compile(constraint)
    message = str(raised.value)
    assert message.startswith(f"sampling.constraint.{constraint.kind.value}: ")
    assert said in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "constraint",
    [
        json_schema({"enum": [f"value {index}" for index in range(10_000)]}),
        json_schema({"type": "string", "minLength": 10**9}),
        json_schema({"type": "array", "minItems": 10**12}),
        json_schema({"type": "string", "pattern": "^(a|b)*a(a|b){30}$"}),
        json_schema(
            {
                "$ref": "#/$defs/0",
                "$defs": {str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(30)}
                | {"30": {"type": "integer"}},
            }
        ),
        json_schema(OBJECT | {"properties": {"child": {"$ref": "#"}}}),
        regex("(a+)+b"),
        regex("(a|b)*a(a|b){30}"),
        Constraint(ConstraintKind.CHOICE, options=tuple(f"{'x' * 200}{i}" for i in range(1000))),
    ],
)
def test_what_only_looks_expensive_is_taken(constraint: Constraint) -> None:
    mask = GRAMMARS.compile(constraint).matcher().mask()
    assert mask is not None
    assert mask.any()


class Held:
    """A call that returns when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, *_: Any) -> Any:
        self.begun.set()
        self.go.wait()
        raise InvalidArgument("late")


@pytest.fixture
def held() -> Iterator[Held]:
    call = Held()
    yield call
    call.go.set()


async def test_compiling_has_a_deadline_and_leaves_the_loop_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_module, "COMPILE_SECONDS", 0.05)
    monkeypatch.setattr(grammar_module, "grammar_source", held)
    grammars = Grammars(TOKENIZER.to_str().encode(), VOCABULARY, (EOS,))
    slow = [grammars.compiled(one) for one in (CHOICE, regex("a"))]
    errors = await asyncio.gather(*slow, return_exceptions=True)
    for error in errors:
        assert isinstance(error, InvalidArgument)
        assert "it takes more than 0.05 s to compile; make it simpler" in str(error)
    with pytest.raises(ResourceExhausted, match="constraints of others are being compiled"):
        await grammars.compiled(regex("b"))  # both threads are taken
    with pytest.raises(InvalidArgument, match="make it simpler"):
        await grammars.compiled(CHOICE)  # known, without a thread


async def test_few_wait_to_be_compiled(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_module, "_MAX_WAITING", 1)
    monkeypatch.setattr(grammar_module, "grammar_source", held)
    grammars = Grammars(TOKENIZER.to_str().encode(), VOCABULARY, (EOS,))
    first = asyncio.create_task(grammars.compiled(CHOICE))
    await asyncio.to_thread(held.begun.wait)
    with pytest.raises(ResourceExhausted, match="1 constraints wait to be compiled"):
        await grammars.compiled(regex("a"))
    held.go.set()
    with pytest.raises(InvalidArgument, match="late"):
        await first


def test_a_call_that_takes_too_long_is_left_behind(held: Held) -> None:
    threads = BoundedThreads("test", 1)
    stuck = threads.submit(held)
    held.begun.wait()
    behind = threads.submit(lambda: 3)
    with pytest.raises(TimeoutError):
        threads.result(stuck, held, 0.01)
    assert threads.result(behind, lambda: 3, 0.01) == 3
    assert threads.result(threads.submit(lambda: 4), lambda: 4, 60.0) == 4


def test_a_slow_mask_ends_its_stream_and_no_other(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_module, "MASK_SECONDS", 0.2)
    compiled: TokenGrammar = GRAMMARS.compile(CHOICE)
    slow, other = compiled.matcher(), compiled.matcher()
    monkeypatch.setattr(slow, "_look_ahead", held)
    slow.expect(())
    held.begun.wait()
    other.expect(())
    for _ in range(2):  # and ever after
        with pytest.raises(InvalidArgument, match=r"constraint\.choice: its next tokens take more"):
            slow.mask()
    mask = other.mask()
    assert mask is not None
    assert mask.any()


def test_a_schema_that_asks_for_too_much_is_refused_by_its_size() -> None:
    with pytest.raises(InvalidArgument, match="json_schema's length is 300002"):
        json_schema(json.dumps("x" * 300_000)).check()
