"""Where the rows of a step lie in the pages: the same few tensors for all layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paceline.engine.interfaces import PAGE_TOKENS, Span
from paceline.engine.pages import UNREAD_PAGE, PagedCache
from paceline.engine.torch.paged.pool import PagedLayer
from paceline.engine.torch.sampling.transfer import to_device

TILE_ROWS = 8
"""Rows of a span that one program of a kernel computes: a verify block, most often."""

PagedBatch = Sequence[tuple[PagedCache, Span]]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepShape:
    """How many rows, tiles and pages the tables of a step have."""

    rows: int
    tiles: int
    pages: int

    @classmethod
    def of(cls, batch: PagedBatch) -> "StepShape":
        """What the spans need."""
        counts = [len(span.token_ids) for _, span in batch]
        tiles = sum(-(-count // TILE_ROWS) for count in counts)
        return cls(sum(counts), tiles, max(len(cache.pages) for cache, _ in batch))


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that are computed at a time, and their tiles."""

    first_row: int
    rows: int
    first_tile: int
    tiles: int


@dataclass(frozen=True, slots=True)
class StepTables:
    """All of a step that kernels read, int64.

    rows: [4, rows]: token, position, and the page and the row in it of its keys. Rows that nobody
    reads have position -1. tiles: [2, tiles]: the first row and how many, all of one span; tiles
    without rows do nothing. pages: [rows, most pages], those of the row's session. counts: of rows
    of each tile; empty where all are to be computed at once.
    """

    rows: Tensor
    tiles: Tensor
    pages: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, batch: PagedBatch, shape: StepShape, device: torch.device) -> "StepTables":
        """Of spans whose caches have room, filled up to `shape`."""
        tiles = _tiles(batch, shape)
        return cls(
            to_device(_rows(batch, shape), device),
            to_device(tiles, device),
            to_device(_pages(batch, shape), device),
            tuple(tiles[1].tolist()),
        )

    def take(self, other: "StepTables") -> None:
        """Become a copy of `other`, at the same addresses."""
        self.rows.copy_(other.rows, non_blocking=True)
        self.tiles.copy_(other.tiles, non_blocking=True)
        self.pages.copy_(other.pages, non_blocking=True)

    def fixed(self) -> "StepTables":
        """A copy whose rows are computed all at once."""
        return StepTables(self.rows.clone(), self.tiles.clone(), self.pages.clone(), ())

    @property
    def tokens(self) -> Tensor:
        """Token ids, [rows]."""
        return self.rows[0]

    @property
    def positions(self) -> Tensor:
        """Positions, [rows]; -1 for rows that nobody reads."""
        return self.rows[1]

    def pieces(self, most_rows: int) -> Iterator[Piece]:
        """All rows in pieces of whole tiles, of at most so many rows where a tile has not more."""
        rows = first_row = first_tile = 0
        for tile, count in enumerate(self.counts):
            if rows and rows + count > most_rows:
                yield Piece(first_row, rows, first_tile, tile - first_tile)
                rows, first_row, first_tile = 0, first_row + rows, tile
            rows += count
        left = self.rows.shape[1] - first_row
        yield Piece(first_row, left, first_tile, self.tiles.shape[1] - first_tile)

    def append(self, layer: PagedLayer, keys: Tensor, values: Tensor) -> None:
        """Write keys and values of all rows, [kv_heads, rows, width], to their pages."""
        page, row = self.rows[2], self.rows[3]
        layer[0][page, :, row] = keys.transpose(0, 1)
        layer[1][page, :, row] = values.transpose(0, 1)


def _rows(batch: PagedBatch, shape: StepShape) -> Numbers:
    rows = np.zeros((4, shape.rows), np.int64)
    rows[1] = -1
    rows[2] = UNREAD_PAGE
    start = 0
    for cache, span in batch:
        at = slice(start, start + len(span.token_ids))
        start = at.stop
        positions = np.arange(span.position, span.position + len(span.token_ids))
        rows[0, at], rows[1, at] = span.token_ids, positions
        rows[2, at] = np.array(cache.pages)[positions // PAGE_TOKENS]
        rows[3, at] = positions % PAGE_TOKENS
    return rows


def _tiles(batch: PagedBatch, shape: StepShape) -> Numbers:
    tiles = np.zeros((2, shape.tiles), np.int64)
    index = start = 0
    for _, span in batch:
        end = start + len(span.token_ids)
        for first in range(start, end, TILE_ROWS):
            tiles[:, index] = first, min(TILE_ROWS, end - first)
            index += 1
        start = end
    return tiles


def _pages(batch: PagedBatch, shape: StepShape) -> Numbers:
    pages = np.full((shape.rows, shape.pages), UNREAD_PAGE, np.int64)
    start = 0
    for cache, span in batch:
        end = start + len(span.token_ids)
        pages[start:end, : len(cache.pages)] = cache.pages
        start = end
    return pages
