"""The forward pass over a ragged batch, compiled. A draft's: rows are rounded to 8 bits."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.engine.compiled.library import StepBatch, library
from paceline.engine.compiled.pool import CompiledPool
from paceline.engine.compiled.shape import LINE
from paceline.engine.compiled.weights import StepWeights
from paceline.engine.prepared.draft_file import PreparedDraft
from paceline.engine.prepared.paged_runner import (
    PagedBatch,
    PagedDraftRunner,
    positions_of,
    tokens_of,
    wanted_rows,
)


class CompiledRunner(PagedDraftRunner[CompiledPool]):
    """A draft's Runner. One thread owns it."""

    def __init__(self, draft: PreparedDraft, threads: int, pages: int) -> None:
        """Of so many pages of KV."""
        self._library = library()
        self._weights = StepWeights(draft)
        self._vocabulary = draft.facts.vocabulary_size
        self._embedded = draft.tensors["embeddings"].shape[0]
        self._threads = threads
        super().__init__(CompiledPool(draft.shape, pages))
        self._workspace = self._room(1)

    def _logits(self, batch: PagedBatch) -> NDArray[Any]:
        """See PagedDraftRunner."""
        model, given = self._weights.model, _given(batch)
        self._check(given["tokens"])
        rows, wanted = len(given["tokens"]), len(given["wanted_rows"])
        logits = np.empty((wanted, model.head.outputs), np.float32)
        self._make_room(rows)
        taken = StepBatch(
            rows=rows,
            wanted=wanted,
            most_pages=given["pages"].shape[1],
            kv=self._pool.address,
            workspace=_aligned(self._workspace),
            logits=logits.ctypes.data,
            **{name: numbers.ctypes.data for name, numbers in given.items()},
        )
        self._library.step(ctypes.byref(model), ctypes.byref(taken), self._threads)
        return logits[:, : self._vocabulary]

    def _check(self, tokens: NDArray[np.int32]) -> None:
        """Raise IndexError for what lies outside the embeddings: C would read on behind them."""
        if tokens.min() < 0 or tokens.max() >= self._embedded:
            what = f"tokens are {tokens.min()} to {tokens.max()}"
            raise IndexError(f"{what}; they must be 0 to {self._embedded - 1}")

    def _make_room(self, rows: int) -> None:
        """Have a workspace for so many rows."""
        if rows > self._rows:
            self._workspace = self._room(rows)

    def _room(self, rows: int) -> NDArray[np.uint8]:
        self._rows = rows
        size = self._library.workspace_bytes(ctypes.byref(self._weights.model), rows)
        return np.zeros(size + LINE, np.uint8)


def _aligned(memory: NDArray[np.uint8]) -> int:
    """The first address in it at which a line begins."""
    return -(-memory.ctypes.data // LINE) * LINE


def _given(batch: PagedBatch) -> dict[str, NDArray[np.int32]]:
    """What StepBatch points to, by its names."""
    lengths = [len(span.token_ids) for _, span in batch]
    numbers = {
        "tokens": tokens_of(batch),
        "positions": positions_of(batch),
        "sessions": np.repeat(np.arange(len(batch)), lengths),
        "wanted_rows": wanted_rows(batch),
        "pages": _pages(batch),
    }
    return {name: np.array(one, np.int32) for name, one in numbers.items()}


def _pages(batch: PagedBatch) -> list[list[int]]:
    """Of each session, filled up with any to the most that one has."""
    most = max(len(cache.pages) for cache, _ in batch)
    return [[*cache.pages, *[0] * (most - len(cache.pages))] for cache, _ in batch]
