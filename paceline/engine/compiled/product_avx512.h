/* Products with AVX-512 and VNNI: see quantized.h. */

INLINE __m512 of_fp16(const fp16 *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}

/* Add the products of 16 outputs of a piece with R rows. codes, scales, row_sums: of the first row.
 */
INLINE void add_piece(const uint8_t *from, const fp16 *scales_and_lows, const int8_t *codes,
                      const float *scales, const float *row_sums, int R, int stride,
                      __m512 sums[TILE]) {
    const __m512i low_half = _mm512_set1_epi8(15);
    __m512i weights[8];
    for (int i = 0; i < 4; i++) {
        __m512i both = _mm512_loadu_si512(from + 64 * i);
        weights[2 * i] = _mm512_and_si512(both, low_half);
        weights[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
    }
    __m512 scale = of_fp16(scales_and_lows), low = of_fp16(scales_and_lows + WIDTH);
    for (int r = 0; r < R; r++) {
        const Four *inputs = (const Four *)(codes + r * stride * GROUP);
        __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
        for (int i = 0; i < 8; i += 2) {
            even = _mm512_dpbusd_epi32(even, weights[i], _mm512_set1_epi32(inputs[i]));
            odd = _mm512_dpbusd_epi32(odd, weights[i + 1], _mm512_set1_epi32(inputs[i + 1]));
        }
        __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
        __m512 scaled = _mm512_mul_ps(scale, _mm512_set1_ps(scales[r * stride]));
        sums[r] = _mm512_fmadd_ps(sum, scaled, sums[r]);
        sums[r] = _mm512_fmadd_ps(low, _mm512_set1_ps(row_sums[r * stride]), sums[r]);
    }
}

INLINE __m512 bias_of(const Linear *linear, ptrdiff_t block, int vector) {
    if (!linear->bias) return _mm512_setzero_ps();
    return _mm512_loadu_ps(linear->bias + block * WIDTH + vector * 16);
}

/* y [R][64] of output block `block`, for R rows of a tile from `row` on. Few rows go through the
 * block once, as memory has it; more stay in registers, 16 outputs at a time. */
INLINE void tile(const Linear *linear, ptrdiff_t block, Rows rows, ptrdiff_t row, int R, int stride,
                 int vectors, float y[][WIDTH]) {
    ptrdiff_t groups = linear->inputs / GROUP, at = place(rows, row, 0);
    for (int vector = 0; vector < VECTORS; vector += vectors) {
        __m512 sums[VECTORS][TILE];
        for (int v = 0; v < vectors; v++)
            for (int r = 0; r < R; r++) sums[v][r] = bias_of(linear, block, vector + v);
        const uint8_t *piece = linear->pieces + block * groups * PIECE;
        const int8_t *codes = rows.codes + at * GROUP;
        const float *scales = rows.scales + at, *row_sums = rows.sums + at;
        for (ptrdiff_t group = 0; group < groups; group++) {
            for (int v = 0; v < vectors; v++) {
                if (vectors == VECTORS)
                    for (int line = v; line < PIECE / 64; line += VECTORS)
                        _mm_prefetch((const char *)piece + AHEAD * PIECE + 64 * line, _MM_HINT_T1);
                const fp16 *said = (const fp16 *)(piece + CODES) + (vector + v) * 16;
                add_piece(piece + (vector + v) * (CODES / VECTORS), said, codes, scales, row_sums,
                          R, stride, sums[v]);
            }
            piece += PIECE, codes += TILE * GROUP, scales += TILE, row_sums += TILE;
        }
        for (int v = 0; v < vectors; v++)
            for (int r = 0; r < R; r++) _mm512_storeu_ps(y[r] + (vector + v) * 16, sums[v][r]);
    }
}

/* A row alone is computed twice: one that is computed once waits longer for memory. */
__attribute__((noinline)) static ptrdiff_t product(const Linear *linear, ptrdiff_t block, Rows rows,
                                                   ptrdiff_t row, ptrdiff_t left,
                                                   float y[][WIDTH]) {
    switch (left) {
    case 1: tile(linear, block, rows, row, 2, 0, VECTORS, y); return 1;
    case 2: tile(linear, block, rows, row, 2, 1, VECTORS, y); return 2;
    case 3: tile(linear, block, rows, row, 3, 1, VECTORS, y); return 3;
    case 4: tile(linear, block, rows, row, 4, 1, VECTORS, y); return 4;
    default: tile(linear, block, rows, row, TILE, 1, 1, y); return left < TILE ? left : TILE;
    }
}
