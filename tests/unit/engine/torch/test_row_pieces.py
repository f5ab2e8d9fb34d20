"""Counts of rows that agree are found, on any machine, and batches keep to them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from paceline.engine.torch.row_pieces import Operator, RowPieces, find_pieces, in_pieces

WIDTH = 8
LIMIT = 256
x = torch.randn(700, WIDTH, generator=torch.Generator().manual_seed(1))


def of_classes(kernel: Callable[[int], int]) -> Operator:
    """An operator that takes another kernel, with other bits, by its count of rows."""
    return lambda rows: torch.cat((rows, rows * (1 + kernel(rows.shape[0]) / 1024)), dim=1)


MACHINES: dict[str, tuple[Callable[[int], int], RowPieces]] = {
    "all agree": (lambda n: 0, RowPieces(2, 4, 256, unpadded=24)),
    "all from one row to seven, and even counts": (
        lambda n: n % 2 * n if n > 7 else 0,
        RowPieces(2, 4, 256, unpadded=8),
    ),
    "all but one row": (lambda n: n == 1, RowPieces(2, 4, 256)),
    "AMX": (lambda n: (n > 32) + (n > 34) * n // 8, RowPieces(2, 4, 32, unpadded=24)),
    "up to 20": (lambda n: n > 20, RowPieces(2, 4, 20, unpadded=20)),
    "up to 72": (lambda n: n > 72, RowPieces(2, 4, 72, unpadded=24)),
    "even counts": (lambda n: n % 2 * n, RowPieces(2, 4, 256)),
    "multiples of 4, rests by their own": (lambda n: n % 4, RowPieces(4, 4, 256)),
    "multiples of 8": (lambda n: n % 8 * n, RowPieces(8, 8, 256)),
    "from 16 rows on": (lambda n: n if n < 16 else 0, RowPieces(16, 16, 256)),
    "each for itself": (lambda n: n, RowPieces(16, 16, 16)),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_counts_that_agree_are_found(machine: str) -> None:
    kernel, expected = MACHINES[machine]
    assert find_pieces(of_classes(kernel), x, 2 * WIDTH, LIMIT) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_a_row_has_the_same_bits_in_every_batch(machine: str) -> None:
    operator = of_classes(MACHINES[machine][0])
    pieces = find_pieces(operator, x, 2 * WIDTH, LIMIT)
    assert pieces is not None
    whole = in_pieces(operator, x, pieces)
    for rows in (1, 2, 3, 5, 17, 31, 32, 33, 40, 63, 65, 100, 255, 256, 257, 600):
        for start in (0, 1, 37):
            found = in_pieces(operator, x[start : start + rows], pieces)
            assert torch.equal(found, whole[start : start + rows]), (rows, start)


def test_an_operator_that_looks_at_where_rows_lie_has_none() -> None:
    def by_place(rows: Tensor) -> Tensor:
        return rows + torch.arange(rows.shape[0])[:, None] % 2 / 1024

    assert find_pieces(by_place, x, WIDTH, LIMIT) is None


def test_rare_differences_are_found() -> None:
    """Other sums differ in a few of 10,000 numbers of 16 bits."""

    def operator(rows: Tensor) -> Tensor:
        off = (rows.view(torch.int32) & 0x1FFF == 0) & (rows.shape[0] > 24)
        return torch.where(off, 2 * rows, rows)

    assert find_pieces(operator, torch.zeros(1, 32), 32, LIMIT) == RowPieces(2, 4, 24, 24)


def test_no_more_rows_than_asked_for_are_in_a_piece() -> None:
    operator = of_classes(lambda n: 0)
    assert find_pieces(operator, x, 2 * WIDTH, 64) == RowPieces(2, 4, 64, 24)


def test_wide_rows_of_which_few_are_compared_are_tried_in_all_counts_too() -> None:
    wide = 2**18
    assert find_pieces(of_classes(lambda n: 0), x, wide, LIMIT) == RowPieces(2, 4, LIMIT, 24)
    seven = of_classes(lambda n: n == 7)
    assert find_pieces(seven, x, wide, LIMIT) == RowPieces(2, 4, LIMIT, 6)


def test_pieces_hold_all_rows_and_are_counts_that_agree() -> None:
    for limits in ((2, 4, 256), (2, 4, 20, 12), (16, 16, 16), (4, 4, 104, 7)):
        pieces = RowPieces(*limits)
        for rows in range(700):
            counts = pieces.cut(rows)
            assert 0 <= sum(counts) - rows < max(pieces.smallest, 16)
            assert all(pieces.up(count) == count <= pieces.largest for count in counts)


def test_no_rows_are_no_piece() -> None:
    assert in_pieces(of_classes(lambda n: 0), x[:0], RowPieces(2, 4, 32)).shape == (0, 2 * WIDTH)
