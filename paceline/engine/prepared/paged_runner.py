"""What runners of prepared drafts share: KV in pages, and where rows of a batch lie."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from paceline.engine.interfaces import PAGE_TOKENS, KVCache, Logits, Span
from paceline.engine.pages import PagedCache, PagePool, own_cache

PoolT = TypeVar("PoolT", bound=PagePool)
PagedBatch = Sequence[tuple[PagedCache, Span]]


class PagedDraftRunner(ABC, Generic[PoolT]):
    """A Runner over sessions whose KV lies in pages of a pool. One thread owns it."""

    page_tokens = PAGE_TOKENS

    def __init__(self, pool: PoolT) -> None:
        """Over `pool`."""
        self._pool = pool

    @property
    def token_bytes(self) -> int:
        """Bytes of KV of a token."""
        return self._pool.token_bytes

    def new_cache(self, max_length: int = 0) -> PagedCache:
        """An empty cache, of whatever length."""
        return PagedCache(self._pool)

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """See paceline.engine.interfaces.Runner."""
        own = [(own_cache(cache), span) for cache, span in batch]
        for cache, span in own:
            cache.truncate(span.position)
            cache.make_room(span.position, span.position + len(span.token_ids))
        found = self._logits(own)
        for cache, span in own:
            cache.extend(len(span.token_ids))
        ends = itertools.accumulate(span.logit_rows for _, span in own)
        return [
            found[end - span.logit_rows : end] for end, (_, span) in zip(ends, own, strict=True)
        ]

    @abstractmethod
    def _logits(self, batch: PagedBatch) -> NDArray[Any]:
        """Of the rows that wanted_rows names, [wanted, vocabulary]; nobody writes to them later."""


def tokens_of(batch: PagedBatch) -> list[int]:
    """All rows' tokens."""
    return list(itertools.chain.from_iterable(span.token_ids for _, span in batch))


def positions_of(batch: PagedBatch) -> NDArray[np.int64]:
    """All rows' positions."""
    return np.concatenate(
        [np.arange(span.position, span.position + len(span.token_ids)) for _, span in batch]
    )


def wanted_rows(batch: PagedBatch) -> NDArray[np.int64]:
    """Rows whose logits are wanted: the last ones of each span."""
    rows: list[int] = []
    end = 0
    for _, span in batch:
        end += len(span.token_ids)
        rows += range(end - span.logit_rows, end)
    return np.array(rows, np.int64)
