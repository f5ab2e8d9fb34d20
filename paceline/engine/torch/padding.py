"""What batches and caches are padded to, so that a row has the same bits in all of them.

In which counts of rows linear layers agree is found at start (row_pieces), and so is how many
queries attention may see at once (query_limit). The probe tests the whole.
"""

import math
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, slots=True)
class Padding:
    """Linear layers see at least min_rows rows and a multiple of row_multiple.

    Up to `unpadded` rows they see just these: there any count gives a row the same bits, which is
    why repr, a part of the fingerprint, leaves it out.
    Attention sees keys in multiples of key_multiple and queries in those of query_multiple.
    max_batched_tokens: rows of the largest step; 0 where query_limit need not bound what
    attention sees at once.
    """

    min_rows: int
    row_multiple: int
    key_multiple: int
    query_multiple: int
    max_batched_tokens: int = 0
    unpadded: int = field(default=0, repr=False)

    def rows(self, count: int) -> int:
        """Rows of a batch of `count`."""
        if count <= self.unpadded:
            return max(1, count)
        return round_up(max(self.min_rows, count), self.row_multiple)

    def keys(self, count: int) -> int:
        """Keys that attention sees of `count`."""
        return round_up(count, self.key_multiple)

    def queries(self, count: int) -> int:
        """Queries that attention sees of `count`."""
        return round_up(count, self.query_multiple)


NO_PADDING = Padding(min_rows=1, row_multiple=1, key_multiple=1, query_multiple=1)
"""For a draft: its draft tokens need not have the same bits twice."""


def batch_invariant(dtype: torch.dtype, max_batched_tokens: int = 0) -> Padding:
    """For a target.

    With other counts of rows the last rows take another kernel and get other bits. Fewer than 4
    rows take oneDNN longer than 4, by a fifth or more in bf16. Attention's bits depend on the
    length of the keys, and on small or uneven counts of queries.
    """
    multiple = 2 if dtype == torch.bfloat16 else 4
    return Padding(
        4, multiple, key_multiple=512, query_multiple=8, max_batched_tokens=max_batched_tokens
    )


def round_up(count: int, multiple: int) -> int:
    """The least multiple that holds `count`."""
    return math.ceil(count / multiple) * multiple
