"""Which tokens a draft has of its target's, and by which ids."""

import json
from typing import Any

import pytest

from paceline.engine.target_ids import TargetIds
from paceline.protocol.vocabulary import (
    Relation,
    Run,
    Tokens,
    VocabularyMap,
    relation,
    same_ids,
    tokens_of,
)


def tokenizer(vocab: Any, added: dict[str, int] | None = None, unk: str | None = None) -> bytes:
    specials = [{"content": name, "id": one} for name, one in (added or {}).items()]
    return json.dumps(
        {"model": {"vocab": vocab, "unk_token": unk}, "added_tokens": specials}
    ).encode()


def numbered(*names: str) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


ABC = numbered("a", "b", "c", "Ġ")


def between(target: Tokens, draft: Tokens) -> tuple[tuple[Run, ...], int, int, bool]:
    found = relation(target, draft)
    assert found.map is not None
    return found.map.runs, found.same, found.of, found.usable


def test_padding_names_are_no_tokens() -> None:
    padded = tokens_of(tokenizer({**ABC, "[PAD4]": 4, "[PAD5]": 5}), 6)
    assert between(padded, tokens_of(tokenizer(ABC), 6)) == ((Run(0, 0, 4),), 4, 6, True)
    assert between(tokens_of(tokenizer(ABC), 6), padded) == ((Run(0, 0, 4),), 4, 6, True)


def test_one_special_token_more_is_never_drafted() -> None:
    more = tokens_of(tokenizer(ABC, {"<tool>": 4}), 5)
    plain = tokens_of(tokenizer(ABC), 5)
    assert between(more, plain)[0] == between(plain, more)[0] == (Run(0, 0, 4),)


def test_tokens_with_other_ids_are_mapped() -> None:
    shifted = Tokens(6, {"<x>": 0, "<y>": 1, **{name: one + 2 for name, one in ABC.items()}})
    assert between(shifted, Tokens(4, ABC))[0] == (Run(2, 0, 4),)
    turned = Tokens(4, {"c": 0, "b": 1, "a": 2, "Ġ": 3})
    assert between(Tokens(4, ABC), turned)[0] == (
        Run(0, 2, 1),
        Run(1, 1, 1),
        Run(2, 0, 1),
        Run(3, 3, 1),
    )


def test_ids_without_rows_are_no_tokens() -> None:
    assert between(Tokens(4, ABC), tokens_of(tokenizer(ABC), 2))[0] == (Run(0, 0, 2),)


def test_a_unigram_model_lists_its_tokens() -> None:
    listed = tokens_of(tokenizer([["<unk>", 0], ["a", -1]]), 2)
    assert listed.ids == {"<unk>": 0, "a": 1}


@pytest.mark.parametrize(("unk", "read"), [("c", 2), (None, 3), ("nowhere", 3)])
def test_what_the_draft_does_not_have_it_reads_as_unknown_or_as_a_blank(
    unk: str | None, read: int
) -> None:
    found = relation(Tokens(5, {**ABC, "z": 4}), tokens_of(tokenizer(ABC, unk=unk), 4)).map
    assert found is not None
    assert TargetIds(found).to_draft((0, 4, 1)) == (0, read, 1)


def test_too_little_in_common_is_another_vocabulary() -> None:
    target = Tokens(4, ABC)
    for names, usable in ((("a", "b", "x", "y"), True), (("a", "x", "y", "z"), False)):
        assert relation(target, Tokens(4, numbered(*names))).usable is usable


def test_without_tokens_equal_sizes_are_trusted() -> None:
    assert relation(Tokens(4, ABC), Tokens(4)) == relation(Tokens(4), Tokens(4)) == same_ids(4, 4)
    assert not relation(Tokens(4, ABC), Tokens(5)).usable


def test_one_of_the_same_ids_may_have_more_rows_or_fewer() -> None:
    assert same_ids(4, 4) == Relation(None, 4, 4)
    assert same_ids(4, 6).map == VocabularyMap(4, (Run(0, 0, 4),))
    assert same_ids(6, 4).map == VocabularyMap(6, (Run(0, 0, 4),))


def test_what_is_missing_is_named() -> None:
    target = Tokens(6, {**ABC, "<tool_call>": 4, "z": 5})
    draft = Tokens(2, numbered("c", "a"))
    assert str(relation(target, draft)) == (
        "2 of 6 tokens the same, 4 missing, such as 'b', 'Ġ', '<tool_call>'"
    )


def test_the_overlap_is_said_for_people() -> None:
    assert (
        str(Relation(None, 151_643, 151_936)) == "151,643 of 151,936 tokens the same, 293 missing"
    )
