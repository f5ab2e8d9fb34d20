"""Attention of all spans of a step at once, over pages of KV.

Without a GPU the kernels run in Triton's interpreter, TRITON_INTERPRET=1, for tests.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from paceline.engine.interfaces import PAGE_TOKENS
from paceline.engine.torch.kernels.attention import add_parts, attend_part
from paceline.engine.torch.paged.pool import PagedLayer
from paceline.engine.torch.paged.step import TILE_ROWS, Piece, StepTables

BLOCK_KEYS = 64
PART_KEYS = 128
"""Keys of a program: enough programs for a GPU where a single row attends to few keys."""
MOST_PARTIAL = 2**28
"""Bytes that what parts give may take; more rows are computed one after the other."""
LEAST = 16
"""Least side of a tile of tensor cores."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How scores are made. window: keys that are seen, 0 for all; softcap: 0 for none."""

    scale: float
    window: int = 0
    softcap: float = 0.0


def attend_pages(
    query: Tensor, layer: PagedLayer, tables: StepTables, scores: Scores, sinks: Tensor | None
) -> Tensor:
    """Attention of all rows over their pages, [heads, rows, width] to [rows, heads, width].

    query: its last dimension is contiguous. sinks: [heads], as of paceline.engine.torch.attention.
    Rows that nobody reads are zero.
    """
    heads, rows, _ = query.shape
    width = layer[1].shape[3]
    given = query.new_empty(rows, heads, width)
    parts = tables.pages.shape[1] * (PAGE_TOKENS // PART_KEYS)
    for piece in tables.pieces(max(1, MOST_PARTIAL // (parts * heads * (width + 2) * 4))):
        _attend_piece(query, layer, tables, scores, sinks, given, piece, parts)
    return given


def _attend_piece(
    query: Tensor,
    layer: PagedLayer,
    tables: StepTables,
    scores: Scores,
    sinks: Tensor | None,
    given: Tensor,
    piece: Piece,
    parts: int,
) -> None:
    """Of some rows, into `given`."""
    (heads, _, width), (keys, values) = query.shape, layer
    kv_heads, value_width = keys.shape[1], values.shape[3]
    sizes = ((parts, piece.rows, heads, value_width), *((parts, piece.rows, heads),) * 2)
    partial = [torch.empty(size, dtype=torch.float32, device=query.device) for size in sizes]
    attend_part[piece.tiles, kv_heads, parts](
        *(query, keys, values, tables.positions, tables.tiles, tables.pages, *partial),
        *(scores.scale, scores.softcap or 1.0, scores.window),
        *(piece.rows, tables.tiles.shape[1], tables.pages.shape[1]),
        *(piece.first_tile, piece.first_row, query.stride(1), query.stride(0)),
        HEADS=heads,
        KV_HEADS=kv_heads,
        WIDTH=width,
        VALUE_WIDTH=value_width,
        BLOCK_ROWS=_block(TILE_ROWS * heads // kv_heads),
        BLOCK_WIDTH=_block(width),
        BLOCK_VALUE=_block(value_width),
        BLOCK=BLOCK_KEYS,
        PAGE=PAGE_TOKENS,
        PART=PART_KEYS,
        CAPPED=scores.softcap > 0.0,
    )
    add_parts[piece.rows, heads](
        *(*partial, tables.positions, query if sinks is None else sinks, given),
        *(scores.window, piece.rows, piece.first_row),
        HEADS=heads,
        VALUE_WIDTH=value_width,
        BLOCK_VALUE=_block(value_width),
        PART=PART_KEYS,
        HAS_SINKS=sinks is not None,
    )


def _block(size: int) -> int:
    return max(LEAST, int(triton.next_power_of_2(size)))
