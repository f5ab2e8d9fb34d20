"""Grammars over tokens: masks against a naive reference, cutting back, looking ahead, refusals."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.engine.grammar import Grammars, TokenMatcher
from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.constraint import JSON_OBJECT, Constraint, ConstraintKind, json_schema
from tests.tiny_models import EOS, VOCABULARY, byte_tokenizer

PADDED = VOCABULARY + 30
TOKENIZER = byte_tokenizer()
GRAMMARS = Grammars(TOKENIZER.to_str().encode(), PADDED, (EOS,))
WORDS = ("yes", "yesterday", "no")
CHOICE = Constraint(ConstraintKind.CHOICE, options=WORDS)


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


LETTERS = sorted({token for word in WORDS for token in ids(word)})


def allowed(matcher: TokenMatcher) -> set[int] | None:
    mask = matcher.mask()
    return None if mask is None else set(np.flatnonzero(mask).tolist())


def expected(output: list[int]) -> set[int] | None:
    """By looking at all words."""
    if EOS in output:  # and nothing else behind it
        end = output.index(EOS)
        whole = output[:end] in map(ids, WORDS) and set(output[end:]) == {EOS}
        return {EOS} if whole else None
    words = [ids(word) for word in WORDS]
    following = {
        word[len(output)]
        for word in words
        if word[: len(output)] == output and len(word) > len(output)
    }
    if output in words:
        following.add(EOS)
    return following or None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from([*LETTERS, EOS])),
            st.tuples(st.just("truncate"), st.integers(0, 6)),
            st.tuples(st.just("expect"), st.lists(st.sampled_from([*LETTERS, EOS]), max_size=4)),
            st.tuples(st.just("word"), st.sampled_from(WORDS)),
        ),
        max_size=12,
    )
)
@settings(max_examples=300, deadline=None)
def test_masks_are_those_of_a_naive_reference_however_the_output_changes(
    actions: list[tuple[str, object]],
) -> None:
    matcher, output = GRAMMARS.compile(CHOICE).matcher(), list[int]()
    for action, value in actions:
        if action == "append":
            assert isinstance(value, int)
            output.append(value)
            matcher.append(value)
        elif action == "word":
            for token in ids(str(value)):
                output.append(token)
                matcher.append(token)
        elif action == "truncate":
            assert isinstance(value, int)
            del output[value:]
            matcher.truncate(value)
        else:
            assert isinstance(value, list)
            matcher.expect(tuple(value))
        assert allowed(matcher) == expected(output)


@given(st.integers(0, 10), st.lists(st.sampled_from(LETTERS), max_size=6))
@settings(max_examples=200, deadline=None)
def test_masks_that_were_looked_ahead_for_are_those_asked_for_later(
    length: int, wrong: list[int]
) -> None:
    word = ids("yesterday")
    start, draft = word[:length], (*word[length : length + 3], *wrong)
    ahead, later = (GRAMMARS.compile(CHOICE).matcher() for _ in range(2))
    for token in start:
        ahead.append(token)
        later.append(token)
    ahead.expect(tuple(draft))
    for token in (*draft, EOS):
        assert allowed(ahead) == allowed(later)
        ahead.append(token)
        later.append(token)
    assert allowed(ahead) == allowed(later)


def test_ids_that_stand_for_no_token_are_closed() -> None:
    mask = GRAMMARS.compile(Constraint(ConstraintKind.REGEX, ".*")).matcher().mask()
    assert mask is not None
    assert mask.shape == (PADDED,)
    assert not mask[VOCABULARY:].any()


@pytest.mark.parametrize(
    ("constraint", "whole", "not_whole"),
    [
        (JSON_OBJECT, '{"a": [1, null]}', "[1]"),
        (json_schema('{"type": "integer", "minimum": 3}'), "17", "2"),
        (Constraint(ConstraintKind.REGEX, "[ab]+c"), "abac", "ca"),
        (Constraint(ConstraintKind.GRAMMAR, 'start: "x" /[0-9]+/'), "x42", "42"),
        (Constraint(ConstraintKind.GRAMMAR, 'root ::= "x" [0-9]+'), "x42", "42"),
        (CHOICE, "yesterday", "yesno"),
        (
            Constraint(
                ConstraintKind.STRUCTURAL_TAG,
                json.dumps(
                    {
                        "structures": [
                            {"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}
                        ],
                        "triggers": ["<f"],
                    }
                ),
            ),
            "so <f>12</f>",
            "so <f>ab</f>",
        ),
    ],
)
def test_each_kind_of_constraint_takes_what_is_of_it(
    constraint: Constraint, whole: str, not_whole: str
) -> None:
    grammar = GRAMMARS.compile(constraint)
    for text, holds in ((whole, True), (not_whole, False)):
        matcher = grammar.matcher()
        for token in ids(text):
            matcher.append(token)
        mask = matcher.mask()
        assert (mask is not None and bool(mask[EOS])) == holds


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        (json_schema("{"), "constraint.json_schema: "),
        (json_schema('{"type": "nosuch"}'), "nosuch"),
        (json_schema('{"type": "array", "uniqueItems": true}'), '["uniqueItems"]'),
        (json_schema('{"not": {"type": "string"}}'), '["not"]'),
        (Constraint(ConstraintKind.REGEX, "(a"), "constraint.regex: "),
        (Constraint(ConstraintKind.GRAMMAR, "start: nothing"), "nothing"),
        (Constraint(ConstraintKind.STRUCTURAL_TAG, "{}"), "constraint.structural_tag: "),
    ],
)
def test_what_is_wrong_or_not_known_is_named_in_a_line(constraint: Constraint, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        GRAMMARS.compile(constraint)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_without_text_has_no_grammars() -> None:
    with pytest.raises(FailedPrecondition, match=r"no tokenizer\.json"):
        Grammars(None, 4, ()).compile(CHOICE)


def test_a_schema_may_come_as_it_was_parsed() -> None:
    assert json_schema({"type": "integer"}) == json_schema('{"type": "integer"}')


def test_masks_that_were_looked_ahead_for_are_not_taken_behind_another_output() -> None:
    matcher, (yes, no) = GRAMMARS.compile(CHOICE).matcher(), (ids("y")[0], ids("n")[0])
    matcher.append(yes)
    matcher.expect(())
    matcher.truncate(0)
    matcher.append(no)
    assert allowed(matcher) == set(ids("o"))
