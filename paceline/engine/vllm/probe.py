"""Whether vLLM's rows have the same bits however they are computed: seen, never assumed.

vLLM's own batch-invariant mode is for several requests against one. Verification also needs a row
of a block to be the row of an ordinary decode step, alone and in company, at every length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paceline.engine.interfaces import KVCache, Runner, Span

TokenIds = tuple[int, ...]
ROWS = 9
"""Rows that are compared at each length."""
BLOCKS = (1, 4, 9)
"""Rows of the steps in which they are computed again."""
OTHERS = (1, 5)
"""Rows of the sessions beside them, where there are some."""
LENGTHS = (16, 700, 1900)
"""Tokens before the rows, where the model takes so many."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How rows were computed again, and by how much they differed at most."""

    how: str
    difference: float

    def __str__(self) -> str:
        """In words."""
        return f"{self.how}: by up to {self.difference:.2g}"


def probe(runner: Runner, vocabulary_size: int, positions: int, step: int) -> tuple[Tried, ...]:
    """All ways in which rows were computed again. step: most tokens in one."""
    rng = np.random.default_rng(0)
    lengths = [length for length in LENGTHS if length + ROWS <= positions]
    tokens = tuple(rng.integers(0, vocabulary_size, max(lengths, default=0) + ROWS).tolist())
    return tuple(one for length in lengths for one in _at(runner, tokens[: length + ROWS], step))


def summary(differing: Sequence[Tried], ways: int) -> str:
    """Of rows that differed in some of the ways that were tried, in a line of a terminal."""
    most = max(one.difference for one in differing)
    return f"rows differ in {len(differing)} of {ways} ways to compute them, by up to {most:.2g}"


def _at(runner: Runner, tokens: TokenIds, step: int) -> list[Tried]:
    """The last rows, computed at once and then in other ways."""
    length = len(tokens) - ROWS
    prefix = _prefix(runner, tokens[:length], step)
    expected = _rows(runner, prefix.copy(length), tokens, ROWS, ())
    trials: dict[str, Callable[[], NDArray[np.floating]]] = {}
    for others in ((), OTHERS):
        company = "beside others" if others else "alone"
        for block in BLOCKS:
            how = f"{block} at a time {company} behind {length} tokens"
            trials[how] = lambda block=block, others=others: _rows(  # type: ignore[misc]
                runner, prefix.copy(length), tokens, block, others
            )
    return [Tried(how, _difference(expected, rows())) for how, rows in trials.items()]


def _prefix(runner: Runner, tokens: TokenIds, step: int) -> KVCache:
    cache = runner.new_cache(len(tokens))
    for start in range(0, len(tokens), step):
        runner.forward([(cache, Span(start, tokens[start : start + step], 0))])
    return cache


def _rows(
    runner: Runner, cache: KVCache, tokens: TokenIds, block: int, others: Sequence[int]
) -> NDArray[np.floating]:
    """Logits of the tokens behind the cache, `block` at a time, beside other sessions."""
    rows = []
    beside = [(runner.new_cache(), Span(0, tokens[:count], count)) for count in others]
    for start in range(cache.length, len(tokens), block):
        part = tokens[start : start + block]
        logits = runner.forward([*beside[:1], (cache, Span(start, part, len(part))), *beside[1:]])
        rows.append(logits[len(beside[:1])])
    return np.concatenate(rows)


def _difference(expected: NDArray[np.floating], rows: NDArray[np.floating]) -> float:
    return float(np.abs(expected - rows).max())
