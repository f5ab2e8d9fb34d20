"""The probe of branches: whether their rows have the bits of rows of plain spans."""

from collections.abc import Sequence

import numpy as np

from paceline.engine.interfaces import BranchingCache, KVCache, Logits, Runner, Span, SpanBranch

CHAIN = 4
"""Tokens of the probed span itself."""
FORKS = ((0, 2), (2, 1), (2, 4))
"""Of each branch: the token of the span that it stands instead of, and how many it has."""
TAKEN = 2
"""The branch that a session goes on behind."""
OTHERS = (3, 9)
"""Rows of the sessions before and behind the probed ones."""
_LINES = (CHAIN, *(at + count for at, count in FORKS))
REACH = max(_LINES) + 1
"""Tokens that the probed sessions have behind their prefix."""
PROBED = sum(_LINES) + len(_LINES) + 2 * (CHAIN + sum(count for _, count in FORKS)) + 2
"""Tokens that are computed, those of other sessions left out."""

TokenIds = tuple[int, ...]


def branches_agree(runner: Runner, whole: KVCache, tokens: TokenIds) -> bool:
    """Whether rows of branches, and of the step behind them, have the bits of plain ones.

    whole: a cache with `tokens`. Branches lie across the end of its first page, if that is full.
    True where the runner computes none.
    """
    position = min(len(tokens) - REACH, runner.page_tokens - CHAIN // 2)
    if position < 1 or not isinstance(whole, BranchingCache):
        return True
    span = _span(position, tokens)
    expected, found = _plain(runner, whole, span), _branched(runner, whole, span, tokens)
    return all(map(np.array_equal, found, expected))


def _span(position: int, tokens: TokenIds) -> Span:
    """With branches, whose tokens are others than its own."""
    other = tokens[::-1]
    branches = tuple(SpanBranch(position + at, other[count:][:count]) for at, count in FORKS)
    return Span(position, tokens[position:][:CHAIN], CHAIN, branches=branches)


def _plain(runner: Runner, whole: KVCache, span: Span) -> Sequence[Logits]:
    """What _branched is to return: each branch is a session's own tokens, with the next one."""
    own = span.token_ids
    lines = [own, *(own[: at.position - span.position] + at.token_ids for at in span.branches)]
    wanted = [CHAIN, *(count for _, count in FORKS)]
    given = runner.forward(
        [
            (whole.copy(span.position), Span(span.position, (*line, own[0]), rows + 1))
            for line, rows in zip(lines, wanted, strict=True)
        ]
    )
    rows = np.concatenate([one[:-1] for one in given])
    return rows, rows, given[0][-1:], given[1 + TAKEN][-1:]


def _branched(
    runner: Runner, whole: BranchingCache, span: Span, tokens: TokenIds
) -> Sequence[Logits]:
    """The rows of two sessions that have the span, and of the next token.

    It comes in the first session behind the span's own tokens, in the second behind a branch.
    """
    kept, taken = (whole.copy(span.position) for _ in range(2))
    before, behind = ((runner.new_cache(), Span(0, tokens[:rows], rows)) for rows in OTHERS)
    rows = runner.forward([before, (kept, span), (taken, span), behind])[1:3]
    taken.take_branch(TAKEN)
    ends = span.position + CHAIN, span.branches[TAKEN].end
    steps = [Span(end, span.token_ids[:1], 1) for end in ends]
    return *rows, *runner.forward(list(zip((kept, taken), steps, strict=True)))
