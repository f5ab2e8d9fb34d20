"""Counts of rows for which an operator gives each row the same bits, found by trying them.

A matrix product chooses its kernel, and how it blocks its sums, by the number of rows. Which counts
agree depends on machine, operator and shape. With AMX 2 to 32 rows agree and 33 do not; with
AVX-512 and no bf16 the even counts agree and some odd ones do not. So nothing is assumed: counts
are compared at start, bit by bit, and larger batches run in pieces of counts that agree.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from paceline.engine.torch.padding import round_up

Operator = Callable[[Tensor], Tensor]
"""Of rows, [n, in] to [n, out]."""

MIN_ROWS = 4
"""Fewer rows take oneDNN longer, by a fifth or more in bf16."""
FINE_ROWS = 64
"""Up to here all multiples are tried; beyond, where padding costs less, only those of COARSE."""
COARSE = 8
MULTIPLES = (2, 4, 8, 16, 32)
ENOUGH = 32
"""With pieces of so many rows no larger multiple is tried."""
WEIGHTS = 15
"""Rows that take as long as reading the weights, which every piece does again."""
COMPARED = 2**18
"""Numbers compared for each count: sums in another order differ in one of a few thousand."""
OPERATIONS, OF_GPU = 3e11, 6e12
"""Multiplications that the search may take for a shape, about: a second on two cores, or less."""
UNPADDED = 24
"""Up to here all counts from 1 on are tried, on a CPU: there fewer rows take less time."""
_SHIFT = 1
"""Rows are tried at other indices than those they are compared with."""
_MOST_ROWS = 512
_LONG_SUM = 256
"""Shorter sums, of toy models, seldom differ: fewer rows of them are compared."""


@dataclass(frozen=True, slots=True)
class RowPieces:
    """Counts of rows that agree: multiples of `multiple` from `smallest` to `largest`.

    Beyond FINE_ROWS only multiples of COARSE. Counts from 1 to `unpadded` agree too.
    """

    multiple: int
    smallest: int
    largest: int
    unpadded: int = 0

    def up(self, rows: int) -> int:
        """The least count that holds `rows`, which are at most `largest`."""
        if rows <= self.unpadded:
            return rows
        fine = round_up(max(rows, self.smallest), self.multiple)
        return fine if fine <= FINE_ROWS else min(round_up(rows, self._coarse), self.largest)

    def cut(self, rows: int) -> list[int]:
        """Counts that together hold `rows`: the last may hold more."""
        whole, rest = divmod(rows, self.largest)
        return [self.largest] * whole + ([self.up(rest)] if rest else [])

    def layout(self, limit: int) -> str:
        """In words; the largest is "all" where no count up to `limit` differs.

        Without `unpadded`, which changes no bits.
        """
        largest = "all" if self.largest >= limit else str(self.largest)
        return f"multiples of {self.multiple} from {self.smallest} to {largest}"

    @property
    def cost(self) -> float:
        """Time of the smallest step, and of a row in a prompt; 1 each at best."""
        return (WEIGHTS + self.smallest) / (WEIGHTS + MIN_ROWS) + WEIGHTS / self.largest + 1

    @property
    def _coarse(self) -> int:
        return max(COARSE, self.multiple)


def in_pieces(operator: Operator, x: Tensor, pieces: RowPieces) -> Tensor:
    """`operator` of rows [n, in], in pieces; the last one is filled up with zeros."""
    rows = x.shape[0]
    if rows <= pieces.largest and pieces.up(rows) == rows:
        return operator(x)
    given: list[Tensor] = []
    for start, count in _starts(pieces.cut(rows)):
        piece = x[start : start + count]
        short = count - piece.shape[0]
        padded = functional.pad(piece, (0, 0, 0, short)) if short else piece
        given.append(operator(padded)[: piece.shape[0]])
    return torch.cat(given) if given else operator(x)


def find_pieces(operator: Operator, like: Tensor, outputs: int, limit: int) -> RowPieces | None:
    """The counts of rows up to `limit` for which `operator` gives rows the same bits.

    like: a tensor of the inputs' width, dtype and device; its values do not matter. None
    where no count does.
    """
    search = _Search(operator, like, outputs, limit)
    candidates: list[RowPieces] = []
    for multiple in MULTIPLES:
        found = search.pieces(multiple)
        if found is not None:
            candidates.append(found)
            if found.largest >= ENOUGH:
                break
    best = min(candidates, key=lambda found: found.cost, default=None)
    return best and replace(best, unpadded=search.unpadded(best))


class _Search:
    """Tries counts for one operator, on rows that are the same at every start."""

    def __init__(self, operator: Operator, like: Tensor, outputs: int, limit: int) -> None:
        self._operator = operator
        inputs = like.shape[-1]
        self._limit = tried_rows(like, outputs, limit)
        most = _MOST_ROWS if inputs >= _LONG_SUM else FINE_ROWS
        self._enough = min(most, math.ceil(COMPARED / outputs))
        rows = max(self._enough, self._limit + MULTIPLES[-1]) + _SHIFT + self._limit
        self._rows = fixed_rows(like, rows)

    def pieces(self, multiple: int) -> RowPieces | None:
        """All counts that agree with the smallest, up to the first that does not."""
        smallest = round_up(MIN_ROWS, multiple)
        expected = self._run(0, smallest, self._enough + smallest)
        largest = 0
        for count in self._counts(multiple):
            missing = count + _SHIFT - expected.shape[0]
            if missing > 0:
                expected = torch.cat((expected, self._run(expected.shape[0], largest, missing)))
            if not self._agrees(count, expected):
                break
            largest = count
        return RowPieces(multiple, smallest, largest) if largest else None

    def unpadded(self, found: RowPieces) -> int:
        """Up to which count all from 1 on agree with those found."""
        if self._rows.device.type != "cpu":
            return 0
        rows = max(self._enough, UNPADDED) + _SHIFT
        expected = self._run(0, found.smallest, rows)
        counts = range(1, min(UNPADDED, found.largest) + 1)
        agreeing = itertools.takewhile(lambda count: self._agrees(count, expected), counts)
        return max(agreeing, default=0)

    def _counts(self, multiple: int) -> Iterator[int]:
        yield from range(round_up(MIN_ROWS, multiple), FINE_ROWS + 1, multiple)
        step = max(COARSE, multiple)
        yield from range(FINE_ROWS + step, self._limit + 1, step)

    def _agrees(self, count: int, expected: Tensor) -> bool:
        """Whether rows in batches of `count` have the bits of `expected`."""
        usable = min(expected.shape[0] - _SHIFT, max(self._enough, count)) // count * count
        found = self._run(_SHIFT, count, usable)
        return torch.equal(found[:usable], expected[_SHIFT : _SHIFT + usable])

    def _run(self, start: int, count: int, rows: int) -> Tensor:
        """At least `rows` rows from `start` on, in batches of `count`."""
        starts = range(start, start + rows, count)
        return torch.cat([self._operator(self._rows[at : at + count]) for at in starts])


def fixed_rows(like: Tensor, rows: int) -> Tensor:
    """The same random rows at every start, of the width, dtype and device of `like`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, like.shape[-1], generator=generator).to(like.device, like.dtype)


def tried_rows(like: Tensor, outputs: int, limit: int) -> int:
    """The most rows, up to `limit`, that find_pieces tries."""
    may = OPERATIONS if like.device.type == "cpu" else OF_GPU
    affordable = int(math.sqrt(2 * COARSE * may / (like.shape[-1] * outputs)))
    return max(ENOUGH, min(limit, affordable // COARSE * COARSE))


def _starts(counts: list[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for count in counts:
        yield start, count
        start += count
