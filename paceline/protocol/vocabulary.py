"""How a draft's vocabulary relates to its target's: what both have, and by which ids. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from paceline.errors import shown

LACKING = 3
"""So many tokens that a draft lacks are named."""
LEAST_SHARE = 0.5
"""A draft that has a smaller share of the target's tokens is not used."""
_PADDING = re.compile(r"\[PAD\d+\]")
"""What converters to GGUF call ids that are no token's."""
_BLANKS = ("Ġ", "▁", " ")


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens with consecutive ids in both vocabularies."""

    target: int
    draft: int
    count: int


@dataclass(frozen=True, slots=True)
class VocabularyMap:
    """Ids of the target, below `size`, that are a draft's by other ids, or are not at all.

    unknown: the draft's id that it reads for a token it does not have.
    """

    size: int
    runs: tuple[Run, ...]
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Relation:
    """What a draft's vocabulary has of a target's. map: None where ids are the same.

    same: tokens of the target that the draft has, of so many; usable: whether that is enough.
    lacks: some that it does not have.
    """

    map: VocabularyMap | None
    same: int
    of: int
    usable: bool = True
    lacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people."""
        same = f"{self.same:,} of {self.of:,} tokens the same"
        if self.same == self.of:
            return same
        such = f", such as {', '.join(self.lacks)}" if self.lacks else ""
        return f"{same}, {self.of - self.same:,} missing{such}"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A model's tokens. ids: by token; empty where there is no tokenizer. size: ids are below."""

    size: int
    ids: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""


def token_ids(tokenizer_json: bytes) -> dict[str, int]:
    """The map from token to id of a tokenizer.json, added tokens included."""
    return _token_ids(json.loads(tokenizer_json))


def _token_ids(content: dict[str, Any]) -> dict[str, int]:
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # a unigram model lists [token, score]
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    return {**vocabulary, **added}


def tokens_of(tokenizer_json: bytes, size: int) -> Tokens:
    """The tokens of a model with a tokenizer; names of padding are none."""
    content = json.loads(tokenizer_json)
    ids = _token_ids(content)
    real = {name: one for name, one in ids.items() if one < size and not _PADDING.fullmatch(name)}
    return Tokens(size, real, content["model"].get("unk_token") or "")


def same_ids(target_size: int, draft_size: int) -> Relation:
    """Of two whose tokens have the same ids, though one may have more rows than the other."""
    same = min(target_size, draft_size)
    relation_map = VocabularyMap(target_size, (Run(0, 0, same),))
    return Relation(None if target_size == draft_size else relation_map, same, target_size)


def relation(target: Tokens, draft: Tokens) -> Relation:
    """Token by token. Without the tokens of both equal sizes are trusted."""
    if not (target.ids and draft.ids):
        if target.size == draft.size:
            return same_ids(target.size, draft.size)
        return Relation(None, 0, target.size, usable=False)
    pairs = sorted((one, draft.ids[name]) for name, one in target.ids.items() if name in draft.ids)
    names = (draft.unknown, *_BLANKS)
    unknown = next((draft.ids[name] for name in names if name in draft.ids), 0)
    found = VocabularyMap(target.size, tuple(_runs(pairs)), unknown)
    usable = len(pairs) >= LEAST_SHARE * len(target.ids)
    return Relation(found, len(pairs), target.size, usable, _lacking(target, draft))


def _lacking(target: Tokens, draft: Tokens) -> tuple[str, ...]:
    """Some of the target's tokens that the draft does not have, those with the first ids."""
    names = (name for name in target.ids if name not in draft.ids)
    return tuple(shown(name) for name in nsmallest(LACKING, names, key=target.ids.__getitem__))


def _runs(pairs: Iterable[tuple[int, int]]) -> Iterator[Run]:
    """Of pairs by ascending ids of the target."""
    begin, count = (0, 0), 0
    for target, draft in pairs:
        if count and (target, draft) == (begin[0] + count, begin[1] + count):
            count += 1
            continue
        if count:
            yield Run(*begin, count)
        begin, count = (target, draft), 1
    if count:
        yield Run(*begin, count)
