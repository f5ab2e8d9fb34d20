"""Attention in C: right numbers, and the same bits however steps are cut, shared and branched."""

import itertools
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paceline.engine.torch.attention import SpanRows
from paceline.engine.torch.kv_cache import SessionCache
from paceline.engine.torch.native.attention import NativeAttention
from paceline.engine.torch.native.library import ATTENTION, library
from paceline.engine.torch.padding import NO_PADDING

LIBRARY = library(ATTENTION)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="nothing is compiled here")


@dataclass
class Session:
    """Query, key and value of each position, [positions, heads, dim], and what is kept of them."""

    query: Tensor
    key: Tensor
    value: Tensor
    cache: SessionCache = field(default_factory=lambda: SessionCache(NO_PADDING))

    def rows(self, first: int, end: int) -> "Rows":
        return self.query[first:end], self.key[first:end], self.value[first:end]


Part = tuple[Session, int, int]
"""A session and its positions of a step, from the first to before the end."""


def session(
    positions: int, heads: int = 6, kv_heads: int = 2, dim: int = 32, seed: int = 0
) -> Session:
    generator = torch.Generator().manual_seed(seed)

    def random(count: int) -> Tensor:
        return torch.randn(positions, count, dim, generator=generator).mul_(2).bfloat16()

    return Session(random(heads), random(kv_heads), random(kv_heads))


Rows = tuple[Tensor, Tensor, Tensor]
"""Query, key and value."""


def joined_rows(parts: list[Rows]) -> Rows:
    query, key, value = (torch.cat(one) for one in zip(*parts, strict=True))
    return query, key, value


def attended(
    rows: Rows, spans: list[SpanRows], window: int | None = None, layer: int = 0
) -> Tensor:
    assert LIBRARY is not None
    query, key, value = rows
    return NativeAttention(LIBRARY)(layer, query, key, value, spans, window)


def attend(parts: list[Part], window: int | None = None, layer: int = 0) -> list[Tensor]:
    """Rows [heads * dim] of each part, in one step."""
    joined = joined_rows([one.rows(first, end) for one, first, end in parts])
    ends = list(itertools.accumulate(b - a for _, a, b in parts))
    spans = [
        SpanRows(one.cache, first, stop - (end - first), stop)
        for (one, first, end), stop in zip(parts, ends, strict=True)
    ]
    y = attended(joined, spans, window, layer)
    return [y[span.start : span.stop] for span in spans]


def expected(one: Session, window: int | None) -> Tensor:
    """In float64, by the definition."""
    group = one.query.shape[1] // one.key.shape[1]
    key, value = (x.double().repeat_interleave(group, 1) for x in (one.key, one.value))
    scores = torch.einsum("qhd,khd->hqk", one.query.double(), key) * one.query.shape[2] ** -0.5
    at = torch.arange(one.query.shape[0])
    hidden = at[None] > at[:, None]
    if window is not None:
        hidden |= at[None] <= at[:, None] - window
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value).flatten(1)


@pytest.mark.parametrize("window", [None, 1, 5, 64, 100])
@pytest.mark.parametrize("shape", [(6, 2, 32), (4, 4, 16), (7, 1, 128), (2, 1, 256)])
def test_it_is_attention(shape: tuple[int, int, int], window: int | None) -> None:
    one = session(150, *shape)
    [found] = attend([(one, 0, 150)], window)
    torch.testing.assert_close(found.double(), expected(one, window), rtol=2.0**-7, atol=2.0**-7)


CUTS = st.lists(st.integers(1, 70), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    cuts=CUTS,
    others=st.lists(st.integers(1, 90), max_size=3),
    window=st.sampled_from([None, 3, 80]),
)
def test_a_row_has_the_same_bits_in_whatever_steps(
    cuts: list[int], others: list[int], window: int | None
) -> None:
    ends = list(itertools.accumulate(cuts))
    [whole] = attend([(session(ends[-1]), 0, ends[-1])], window)
    one = session(ends[-1])
    for first, end in zip([0, *ends], ends, strict=False):
        beside = [(session(count, seed=count), 0, count) for count in others]
        found = attend([*beside[:1], (one, first, end), *beside[1:]], window)
        assert torch.equal(found[len(beside[:1])], whole[first:end])


@settings(max_examples=40, deadline=None)
@given(
    kept=st.integers(0, 130),
    own=st.integers(1, 8),
    branches=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), max_size=3),
    window=st.sampled_from([None, 4, 70]),
)
def test_a_branch_has_the_bits_of_its_tokens_alone(
    kept: int, own: int, branches: list[tuple[int, int]], window: int | None
) -> None:
    one = session(kept + own)
    if kept:
        attend([(one, 0, kept)], window)
    tails = [(kept + min(behind, own), session(rows, seed=rows + 7)) for behind, rows in branches]
    x = joined_rows([one.rows(kept, kept + own), *(parts_of(tail) for _, tail in tails)])
    ends = list(itertools.accumulate([own, *(tail.query.shape[0] for _, tail in tails)]))
    rows = tuple(
        SpanRows(one.cache, position, first, end)
        for (position, _), first, end in zip(tails, ends, ends[1:], strict=False)
    )
    y = attended(x, [SpanRows(one.cache, kept, 0, own, rows)], window)
    assert torch.equal(y[:own], alone(one, window)[kept:])
    for (position, tail), branch in zip(tails, rows, strict=True):
        forked = Session(*joined_rows([one.rows(0, position), parts_of(tail)]))
        assert torch.equal(y[branch.start : branch.stop], alone(forked, window)[position:])
        remembered = one.cache.layer(0).branches[rows.index(branch)]
        assert remembered[0] == position
        assert torch.equal(remembered[1].transpose(0, 1), tail.key)
        assert torch.equal(remembered[2].transpose(0, 1), tail.value)


def parts_of(one: Session) -> Rows:
    return one.query, one.key, one.value


def alone(one: Session, window: int | None) -> Tensor:
    [rows] = attend([(Session(*parts_of(one)), 0, one.query.shape[0])], window)
    return rows


def test_rows_of_no_span_are_zero_and_layers_keep_their_own() -> None:
    one = session(12)
    y = attended(one.rows(0, 12), [SpanRows(one.cache, 0, 2, 9)])
    assert not y[:2].any()
    assert not y[9:].any()
    attend([(one, 0, 5)], layer=1)
    keys, _ = one.cache.layer(0).reserve(1, *(x.transpose(0, 1) for x in (one.key, one.value)))
    assert torch.equal(keys[:, :7].transpose(0, 1), one.key[2:9])
    keys, values = one.cache.layer(1).reserve(1, *(x.transpose(0, 1) for x in (one.key, one.value)))
    assert torch.equal(keys[:, :5].transpose(0, 1), one.key[:5])
    assert torch.equal(values[:, :5].transpose(0, 1), one.value[:5])


def test_a_score_that_is_no_number_is_not_hidden() -> None:
    one = session(5)
    one.key[2, 0, 0] = torch.nan
    [found] = attend([(one, 0, 5)])
    seen_by = found.view(5, 6, 32).isnan().all(2)
    assert not seen_by[:2].any()
    assert seen_by[2:, :3].all()
    assert not seen_by[2:, 3:].any()


def test_threads_with_small_stacks_are_enough() -> None:
    code = (
        "import torch; from tests.unit.engine.torch.native import test_attention as t;"
        "from tests.unit.engine.torch.native import test_wide_product as w;"
        "torch.set_num_threads(2);"
        "t.attend([(t.session(90, 4, 4, 256), 0, 90)]);"
        "w.product_of(*w.parts_of(512, 512))(torch.zeros(240, 512).bfloat16())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"OMP_STACKSIZE": "32k"}, check=False
    )
    assert done.returncode == 0
