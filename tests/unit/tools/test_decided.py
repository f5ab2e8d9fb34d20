"""Tokens that verifications decide, replayed over the ranks of the target's tokens."""

import pytest

from benchmarks.second_best import decided


@pytest.mark.parametrize(
    ("ranks", "branches", "tokens"),
    [
        ((0, 0, 0, 0, 0, 0), False, [4]),
        ((0, 1, 0, 0, 0, 0), False, [2, 4]),
        ((0, 1, 0, 0, 0, 0), True, [3]),
        ((2, 0, 0, 0, 0), True, [1, 4]),
        ((0, 0, 0), True, []),
    ],
)
def test_a_branch_brings_the_token_behind_it(
    ranks: tuple[int, ...], branches: bool, tokens: list[int]
) -> None:
    found = decided(ranks, 3, branches=branches)
    assert found == tokens
