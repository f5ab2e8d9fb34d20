/* Products with AVX2 and FMA: see quantized.h.
 *
 * Sums of a group are exact in 16 bits: each place adds up 16 products of at most 15 * 128, 30,720.
 * Sums of all groups are in y, in the first cache, as there are but 16 registers.
 */

_Static_assert(GROUP / 2 * 15 * 128 <= INT16_MAX, "a place has the sum of a group");

INLINE __m256 of_fp16(const fp16 *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
}

/* Codes of 8 outputs: of the low halves of bytes or of the high ones. */
INLINE __m256i codes_of(const uint8_t *from, int high) {
    __m256i both = _mm256_loadu_si256((const __m256i *)from);
    return _mm256_and_si256(high ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
}

/* Add the products of 8 * V outputs of a piece with R rows to y [R][64]. codes, scales, row_sums:
 * of the first row. */
INLINE void add_piece(const uint8_t *from, const fp16 *scales_and_lows, const int8_t *codes,
                      const float *scales, const float *row_sums, int R, int V, float *y) {
    __m256i sums[TILE];
    for (int i = 0; i < R * V; i++) sums[i] = _mm256_setzero_si256();
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) {
        __m256i weights[2];
        for (int v = 0; v < V; v++) weights[v] = codes_of(from + i / 2 * 64 + v * 32, i % 2);
        for (int r = 0; r < R; r++) {
            __m256i inputs = _mm256_set1_epi32(((const Four *)(codes + r * GROUP))[i]);
            for (int v = 0; v < V; v++) {
                __m256i *sum = sums + r * V + v;
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights[v], inputs));
                __asm__("" : "+x"(*sum)); /* compilers have another order, and no registers left */
            }
        }
    }
    for (int v = 0; v < V; v++) {
        __m256 scale = of_fp16(scales_and_lows + 8 * v);
        __m256 low = of_fp16(scales_and_lows + 8 * v + WIDTH);
        for (int r = 0; r < R; r++) {
            float *to = y + r * WIDTH + 8 * v;
            __m256i pairs = _mm256_madd_epi16(sums[r * V + v], _mm256_set1_epi16(1));
            __m256 scaled = _mm256_mul_ps(scale, _mm256_set1_ps(scales[r]));
            __m256 all = _mm256_fmadd_ps(low, _mm256_set1_ps(row_sums[r]), _mm256_loadu_ps(to));
            _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(pairs), scaled, all));
        }
    }
}

/* y [R][64] of output block `block`, for R rows of a tile from `row` on, with V vectors at once. */
INLINE void tile(const Linear *linear, ptrdiff_t block, Rows rows, ptrdiff_t row, int R, int V,
                 float y[][WIDTH]) {
    ptrdiff_t groups = linear->inputs / GROUP, at = place(rows, row, 0);
    for (int r = 0; r < R; r++)
        for (int i = 0; i < WIDTH; i++)
            y[r][i] = linear->bias ? linear->bias[block * WIDTH + i] : 0;
    const uint8_t *piece = linear->pieces + block * groups * PIECE;
    for (ptrdiff_t group = 0; group < groups; group++) {
        /* All lines of a piece are asked for together: one by one they come a third later. */
        for (int line = 0; line < PIECE; line += 64)
            _mm_prefetch((const char *)piece + AHEAD * PIECE + line, _MM_HINT_T1);
        for (int i = 0; i < WIDTH; i += 8 * V)
            add_piece(piece + i / 16 * (CODES / VECTORS) + i % 16 * 4,
                      (const fp16 *)(piece + CODES) + i, rows.codes + at * GROUP, rows.scales + at,
                      rows.sums + at, R, V, y[0] + i);
        piece += PIECE, at += TILE;
    }
}

__attribute__((noinline)) static ptrdiff_t product(const Linear *linear, ptrdiff_t block, Rows rows,
                                                   ptrdiff_t row, ptrdiff_t left,
                                                   float y[][WIDTH]) {
    switch (left) {
    case 1: tile(linear, block, rows, row, 1, 2, y); return 1;
    case 2: tile(linear, block, rows, row, 2, 2, y); return 2;
    case 3: tile(linear, block, rows, row, 3, 2, y); return 3;
    case 4: tile(linear, block, rows, row, 4, 2, y); return 4;
    case 5: tile(linear, block, rows, row, 5, 1, y); return 5;
    case 6: tile(linear, block, rows, row, 6, 1, y); return 6;
    default: tile(linear, block, rows, row, TILE, 1, y); return left < TILE ? left : TILE;
    }
}
