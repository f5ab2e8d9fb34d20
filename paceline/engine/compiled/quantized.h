/* Products of rows in 8 bits with weights in 4.
 *
 * A weight [n, k] lies as [n / 64][k / 32] pieces, each of 64 outputs by 32 inputs: 1024 bytes of
 * codes, then 64 scales and 64 lows in fp16; it is code * scale + low. Codes lie as [4][4][16][4]
 * bytes: of 16 outputs, of 8 inputs, an output, an input in the low half and its fourth next in the
 * high one. Rows [m, k] lie as [m / 8][k / 32] tiles of 8 rows by 32 inputs; of each tile and row
 * there are a scale and the sum of its inputs.
 */
#ifndef QUANTIZED_H
#define QUANTIZED_H
#include "vectors.h"

enum {
    WIDTH = 64,
    VECTORS = WIDTH / 16,
    GROUP = 32,
    CODES = WIDTH * GROUP / 2,
    PIECE = CODES + 4 * WIDTH,
    TILE = 8,
    AHEAD = 16, /* pieces */
};

typedef struct {
    const uint8_t *pieces;
    const float *bias;
    ptrdiff_t outputs, inputs;
} Linear;

typedef struct {
    int8_t *codes;
    float *scales, *sums;
    ptrdiff_t width;
} Rows;

INLINE Rows of_width(Rows rows, ptrdiff_t width) {
    rows.width = width;
    return rows;
}

/* Where a group of a row lies, counted in groups. */
INLINE ptrdiff_t place(Rows rows, ptrdiff_t row, ptrdiff_t group) {
    return (row / TILE * (rows.width / GROUP) + group) * TILE + row % TILE;
}

INLINE void quantize(Vector first, Vector second, Rows to, ptrdiff_t row, ptrdiff_t group) {
    ptrdiff_t at = place(to, row, group);
    float most = largest_of(larger(magnitude(first), magnitude(second)));
    float scale = most > 0 ? most / 127 : 1;
    Vector inverse = same(1 / scale);
    store_codes(to.codes + at * GROUP, times(first, inverse));
    store_codes(to.codes + at * GROUP + 16, times(second, inverse));
    to.scales[at] = scale;
    to.sums[at] = sum_of(plus(first, second));
}

/* Both have `product`, which is: y [TILE][64] of the tile of rows that begins at `row`, of which
 * `left` matter; it returns how many of them it made. */
#ifdef __AVX512F__
#include "product_avx512.h"
#else
#include "product_avx2.h"
#endif
#endif
