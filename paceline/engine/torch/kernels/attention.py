"""Attention over pages of KV: the kernels of paceline.engine.torch.paged.attention.

Tiles and the order of sums are fixed. A program computes the rows of one tile over PART keys, in
blocks of BLOCK. A second kernel adds up a row's parts in their order. What a row sees depends on
its own position alone: keys behind it that others of its tile see weigh exactly 0 (online softmax;
Milakov and Gimelshein 2018, Dao 2022).
"""

import triton
import triton.language as tl


@triton.jit
def attend_part(
    query,
    keys,
    values,
    positions,
    tiles,
    pages,
    partial,
    maxima,
    sums,
    scale,
    softcap,
    window,
    row_count,
    tile_count,
    page_count,
    tile_start,
    row_start,
    query_row,
    query_head,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
    BLOCK_VALUE: tl.constexpr,
    BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
    PART: tl.constexpr,
    CAPPED: tl.constexpr,
):
    tile, kv_head, part = tile_start + tl.program_id(0), tl.program_id(1), tl.program_id(2)
    groups: tl.constexpr = HEADS // KV_HEADS
    first = tl.load(tiles + tile)
    count = tl.load(tiles + tile_count + tile)
    last_position = tl.load(positions + first + count - 1, mask=count > 0, other=-1)
    first_position = tl.load(positions + first, mask=count > 0, other=-1)
    start = part * PART
    in_window = (window == 0) | (start + PART > first_position - window + 1)
    if (start <= last_position) & in_window:
        index = tl.arange(0, BLOCK_ROWS)
        row, head = first + index // groups, kv_head * groups + index % groups
        valid = index // groups < count
        position = tl.load(positions + row, mask=valid, other=-1)
        width = tl.arange(0, BLOCK_WIDTH)
        value_width = tl.arange(0, BLOCK_VALUE)
        asked = tl.load(
            query + row[:, None] * query_row + head[:, None] * query_head + width[None],
            mask=valid[:, None] & (width < WIDTH)[None],
            other=0.0,
        )
        page = tl.load(pages + first * page_count + start // PAGE)
        base = (page * KV_HEADS + kv_head) * PAGE + start % PAGE
        best = tl.full((BLOCK_ROWS,), -1e30, tl.float32)
        total = tl.zeros((BLOCK_ROWS,), tl.float32)
        out = tl.zeros((BLOCK_ROWS, BLOCK_VALUE), tl.float32)
        end = tl.minimum(PART, last_position + 1 - start)
        for at in range(0, end, BLOCK):
            key = at + tl.arange(0, BLOCK)
            seen = start + key[None] <= position[:, None]
            seen = seen & ((window == 0) | (start + key[None] > position[:, None] - window))
            block = tl.load(
                keys + (base + key)[None] * WIDTH + width[:, None],
                mask=(width < WIDTH)[:, None],
                other=0.0,
            )
            score = tl.dot(asked, block, input_precision="ieee") * scale
            if CAPPED:
                score = softcap * (2.0 * tl.sigmoid(2.0 * score / softcap) - 1.0)
            score = tl.where(seen, score, -1e30)
            top = tl.maximum(best, tl.max(score, 1))
            weight = tl.where(seen, tl.exp(score - top[:, None]), 0.0)
            fade = tl.exp(best - top)
            total = total * fade + tl.sum(weight, 1)
            held = tl.load(
                values + (base + key)[:, None] * VALUE_WIDTH + value_width[None],
                mask=(value_width < VALUE_WIDTH)[None],
                other=0.0,
            )
            weighed = tl.dot(weight.to(held.dtype), held, input_precision="ieee")
            out = out * fade[:, None] + weighed
            best = top
        place = (part * row_count + row - row_start) * HEADS + head
        tl.store(maxima + place, best, mask=valid)
        tl.store(sums + place, total, mask=valid)
        tl.store(
            partial + place[:, None] * VALUE_WIDTH + value_width[None],
            out,
            mask=valid[:, None] & (value_width < VALUE_WIDTH)[None],
        )


@triton.jit
def add_parts(
    partial,
    maxima,
    sums,
    positions,
    sinks,
    given,
    window,
    row_count,
    row_start,
    HEADS: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    BLOCK_VALUE: tl.constexpr,
    PART: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):
    index, head = tl.program_id(0), tl.program_id(1)
    row = row_start + index
    position = tl.load(positions + row)
    width = tl.arange(0, BLOCK_VALUE)
    out = tl.zeros((BLOCK_VALUE,), tl.float32)
    # Where a sink is, it is a first key that scores so much and has a value of zero.
    best = tl.full((), -1e30, tl.float32)
    total = tl.full((), 0.0, tl.float32)
    if HAS_SINKS:
        best = tl.load(sinks + head).to(tl.float32)
        total = tl.full((), 1.0, tl.float32)
    first = tl.where(window == 0, 0, tl.maximum(position - window + 1, 0) // PART)
    end = tl.where(position < 0, 0, position // PART + 1)
    for part in range(first, end):
        place = (part * row_count + index) * HEADS + head
        its_best = tl.load(maxima + place)
        top = tl.maximum(best, its_best)
        fade, its_fade = tl.exp(best - top), tl.exp(its_best - top)
        total = total * fade + tl.load(sums + place) * its_fade
        weighed = tl.load(
            partial + place * VALUE_WIDTH + width, mask=width < VALUE_WIDTH, other=0.0
        )
        out = out * fade + weighed * its_fade
        best = top
    out = tl.where(total > 0.0, out / tl.maximum(total, 1e-30), 0.0)
    tl.store(
        given + (row * HEADS + head) * VALUE_WIDTH + width,
        out.to(given.dtype.element_ty),
        mask=width < VALUE_WIDTH,
    )
