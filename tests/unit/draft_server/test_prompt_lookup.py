"""Lookup, against its definition: the longest match, the last of equals."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draft_server import prompt_lookup
from draft_server.drafters.ngram import NgramDrafter
from draft_server.prompt_lookup import (
    KEY_TOKENS,
    MOST_OCCURRENCES,
    NO_MATCH,
    RECENT_OUTPUTS,
    RECENT_SALTS,
    Match,
    PromptLookup,
    RecentOutputs,
    SuffixIndex,
)
from paceline.errors import PacelineError
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from tests.unit.draft_server.stepped_engine import context

runs = st.lists(st.integers(0, 2), max_size=MOST_OCCURRENCES)


def by_definition(tokens: list[int], context: list[int], count: int) -> Match:
    found = NO_MATCH
    for position in range(KEY_TOKENS, len(tokens)):
        length = 0
        while length < min(position, len(context)) and (
            tokens[position - length - 1] == context[-length - 1]
        ):
            length += 1
        if length >= max(KEY_TOKENS, found.length):
            found = Match(length, tuple(tokens[position : position + count]))
    return found


@given(runs, runs, st.integers(1, 4))
def test_the_longest_match_is_found_and_of_equals_the_last(
    tokens: list[int], context: list[int], count: int
) -> None:
    assert SuffixIndex(tokens).longest(context, count) == by_definition(tokens, context, count)


@given(runs, st.integers(1, 4))
def test_a_stream_is_looked_up_in_itself(tokens: list[int], count: int) -> None:
    lookup = PromptLookup(tokens[:3])
    lookup.commit(tokens)
    assert lookup.find(tokens, count, KEY_TOKENS) == by_definition(tokens, tokens, count)


def test_a_longer_match_elsewhere_is_preferred_and_a_short_one_refused() -> None:
    others = (SuffixIndex([7, 1, 2, 3, 8]), SuffixIndex([6, 1, 2, 3, 9, 9]))
    lookup = PromptLookup([2, 3, 4, 6, 1, 2, 3], others)
    assert lookup.find([6, 1, 2, 3], 2, 2) == Match(4, (9, 9))
    assert lookup.find([6, 1, 2, 3], 2, 5) == NO_MATCH


def test_recent_outputs_are_bounded_and_kept_apart_by_salt() -> None:
    recent = RecentOutputs()
    for index in range(RECENT_OUTPUTS + 3):
        recent.add("a", [index, index])
    assert [index.tokens[0] for index in recent.of("a")][:2] == [
        RECENT_OUTPUTS + 2,
        RECENT_OUTPUTS + 1,
    ]
    assert len(recent.of("a")) == RECENT_OUTPUTS
    assert recent.of("b") == ()
    for index in range(RECENT_SALTS):
        recent.add(f"salt {index}", [1])
    assert recent.of("a") == ()


def test_the_ngram_drafter_drafts_at_once_and_says_when_it_knows_nothing() -> None:
    delivered: list[Proposal | PacelineError] = []
    prompt = (1, 2, 3, 4, 1, 2)
    opening = Opening("test", prompt, SamplingParams(), 0, 20, stop_token_ids=frozenset({4}))
    drafter = NgramDrafter(context(opening, delivered.append))
    assert drafter.plan(0) is None
    assert delivered == []
    drafter.advance(Advance(6, (), 4))
    assert drafter.plan(0) is None
    digest = TokenPath(prompt).digest
    assert delivered == [Proposal(6, digest, (3, 4), (2.0, 2.0), Drafter.NGRAM)]
    delivered.clear()
    drafter.advance(Advance(6, (9,), 4))
    drafter.plan(0)
    digest = TokenPath((*prompt, 9)).digest
    assert delivered == [Proposal(7, digest, (), (), Drafter.NGRAM)]


def test_what_is_remembered_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_lookup, "MOST_BYTES", 250 * prompt_lookup.TOKEN_BYTES)
    outputs = RecentOutputs()
    for salt in "abc":
        outputs.add(salt, range(100))
    assert outputs.bytes == 200 * prompt_lookup.TOKEN_BYTES
    assert [len(outputs.of(salt)) for salt in "abc"] == [0, 1, 1]


@pytest.mark.parametrize("count", [1000, 5500, 11_000, prompt_lookup.RECENT_TOKENS])
def test_a_token_costs_no_more_than_it_counts(count: int) -> None:
    """No run of tokens comes twice, and no two tokens are one object."""
    encoded = json.dumps([1000 + 7 * index for index in range(count)])
    tracemalloc.start()
    try:
        index = SuffixIndex(json.loads(encoded))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index.tokens) == count
    assert used < count * prompt_lookup.TOKEN_BYTES
