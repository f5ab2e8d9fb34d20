/* y = x w^T + bias in bf16, of weights in 12 bits (layout.h).
 *
 * With few rows the time is that of reading the weights once, and they are read in three quarters
 * of their bytes. Sums are those of oneDNN bit by bit: pairs of inputs in order within `chunk`
 * inputs from zero, and the chunks' sums in order. That is compared before it is used. The number
 * of outputs is a multiple of 64, that of inputs even.
 */
#include "packing.h"
#include <immintrin.h>

typedef int32_t Pair; /* of inputs */

enum { GROUP = 24, MOST_ROWS = 10 * GROUP };

#define FETCH(address) _mm_prefetch((const char *)(address), _MM_HINT_T1)
/* Beyond 16 turns the compiler leaves a loop, and its sums in memory, unless it is told. */
#define UNROLLED _Pragma("GCC unroll 24")

/* Upper bytes of 64 numbers. */
static inline __m512i upper(const uint8_t *codes, __m512i table) {
    const __m512i shifts = _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0);
    __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)codes));
    __m512i each = _mm512_and_si512(_mm512_srlv_epi64(twice, shifts), _mm512_set1_epi8(15));
    return _mm512_shuffle_epi8(table, each);
}

/* Add the products of a part's vectors FIRST to FIRST + V of outputs to sums [R][WIDTH]. The R * V
 * sums fit the 32 registers of the CPU. Where that takes several goes over a part, each asks the
 * memory for its share of what lies half a part ahead, so that memory is busy in all of them. */
#define DEFINE_ADD(R, V, ODD)                                                                      \
    static void add_##R##_##ODD(Part of, int first, const Pair *x, float *sums) {                  \
        __m512 sum[R][V];                                                                          \
        UNROLLED for (int r = 0; r < R; r++)                                                       \
            for (int v = 0; v < V; v++) sum[r][v] = _mm512_setzero_ps();                           \
        const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)of.table));  \
        const ptrdiff_t half = HALF * of.pairs, share = HALF / 2 * V;                              \
        const uint8_t *low = of.bytes + first / 2 * half, *codes = low + LOW * of.pairs;           \
        const uint8_t *ahead = of.bytes + half + first * half / 2;                                 \
        const bf16 *whole = of.whole + first * 32;                                                 \
        FETCH(whole);                                                                              \
        for (ptrdiff_t i = 0;; i++, x += R) {                                                      \
            __m512bh weight[V];                                                                    \
            if (i < *of.rare) {                                                                    \
                for (int at = 0; V < VECTORS && at < share; at += 64) FETCH(ahead + i * share + at); \
                for (int h = 0; h < (V + 1) / 2; h++) {                                            \
                    __m512i lows = _mm512_loadu_si512(low + h * half + i * LOW);                   \
                    __m512i highs = upper(codes + h * half + i * (HALF - LOW), table);             \
                    __m512i one = _mm512_unpacklo_epi8(lows, highs);                               \
                    __m512i other = _mm512_unpackhi_epi8(lows, highs);                             \
                    weight[2 * h % V] = (__m512bh)(ODD ? other : one);                             \
                    if (V > 1) weight[(2 * h + 1) % V] = (__m512bh)other;                          \
                }                                                                                  \
            } else if (i < of.pairs) {                                                             \
                for (int v = 0; v < V; v++)                                                        \
                    weight[v] = (__m512bh)_mm512_loadu_si512(whole + v * 32);                      \
                whole += NUMBERS;                                                                  \
                of.rare++;                                                                         \
                FETCH(whole);                                                                      \
            } else break;                                                                          \
            UNROLLED for (int r = 0; r < R; r++) {                                                 \
                __m512bh input = (__m512bh)_mm512_set1_epi32(x[r]);                                \
                for (int v = 0; v < V; v++)                                                        \
                    sum[r][v] = _mm512_dpbf16_ps(sum[r][v], input, weight[v]);                     \
            }                                                                                      \
        }                                                                                          \
        UNROLLED for (int r = 0; r < R; r++)                                                       \
            for (int v = 0; v < V; v++) {                                                          \
                float *to = sums + r * WIDTH + (first + v) * 16;                                   \
                _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum[r][v]));               \
            }                                                                                      \
    }
#define EACH_COUNT(FOUR, TWO, ONE)                                                                 \
    FOUR(1) FOUR(2) FOUR(3) FOUR(4) FOUR(5) FOUR(6)                                                \
    TWO(7) TWO(8) TWO(9) TWO(10) TWO(11) TWO(12)                                                   \
    ONE(13) ONE(14) ONE(15) ONE(16) ONE(17) ONE(18) ONE(19) ONE(20) ONE(21) ONE(22) ONE(23) ONE(24)
#define ADD_FOUR(R) DEFINE_ADD(R, 4, 0)
#define ADD_TWO(R) DEFINE_ADD(R, 2, 0)
#define ADD_ONE(R) DEFINE_ADD(R, 1, 0) DEFINE_ADD(R, 1, 1)
EACH_COUNT(ADD_FOUR, ADD_TWO, ADD_ONE)

typedef struct {
    void (*add[2])(Part, int, const Pair *, float *); /* from an even vector on, and an odd one */
    int vectors;
} Tile;
#define TILE_FOUR(R) [R] = {{add_##R##_0}, 4},
#define TILE_TWO(R) [R] = {{add_##R##_0}, 2},
#define TILE_ONE(R) [R] = {{add_##R##_0, add_##R##_1}, 1},
static const Tile TILES[GROUP + 1] = {EACH_COUNT(TILE_FOUR, TILE_TWO, TILE_ONE)};

/* Rows of each group but the last: as alike as can be, and at most GROUP. */
static ptrdiff_t group_of(ptrdiff_t rows) {
    ptrdiff_t groups = (rows + GROUP - 1) / GROUP;
    return (rows + groups - 1) / groups;
}

/* [rows, k] to [groups][k / 2][rows of the group]: what is multiplied together lies together. */
static void pack_inputs(const bf16 *x, Pair *packed, ptrdiff_t rows, ptrdiff_t k) {
    ptrdiff_t group = group_of(rows);
#pragma omp for schedule(static)
    for (ptrdiff_t pair = 0; pair < k / 2; pair++)
        for (ptrdiff_t row = 0; row < rows; row++) {
            ptrdiff_t first = row / group * group, left = rows - first;
            ptrdiff_t size = left < group ? left : group;
            Pair *to = packed + first * (k / 2) + pair * size + row - first;
            memcpy(to, x + row * k + 2 * pair, sizeof(Pair));
        }
}

static void add_part(Part of, const Pair *packed, ptrdiff_t rows, ptrdiff_t k, float *sums) {
    ptrdiff_t group = group_of(rows);
    for (ptrdiff_t first = 0; first < rows; first += group) {
        ptrdiff_t left = rows - first, size = left < group ? left : group;
        const Pair *x = packed + first * (k / 2) + of.from / 2 * size;
        Tile tile = TILES[size];
        for (int v = 0; v < VECTORS; v += tile.vectors)
            tile.add[v % 2](of, v, x, sums + first * WIDTH);
    }
}

static void store(const float *sums, const bf16 *bias, bf16 *y, ptrdiff_t rows, ptrdiff_t n) {
    for (ptrdiff_t row = 0; row < rows; row++)
        for (int v = 0; v < VECTORS; v++) {
            __m512 sum = _mm512_loadu_ps(sums + row * WIDTH + v * 16);
            if (bias) {
                __m256i half = _mm256_loadu_si256((const __m256i *)(bias + v * 16));
                __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(wide));
            }
            __m256i rounded = (__m256i)_mm512_cvtneps_pbh(sum);
            _mm256_storeu_si256((__m256i *)(y + row * n + v * 16), rounded);
        }
}

/* x: [rows, k]; packed: as many; bias: [n] or null; y: [rows, n]. Returns 0, or 1 for more rows than
 * it takes. */
int product(const Weight *weight, const bf16 *x, const bf16 *bias, bf16 *y, Pair *packed,
            ptrdiff_t rows, int threads) {
    if (rows > MOST_ROWS) return 1;
    const ptrdiff_t n = weight->outputs, k = weight->inputs;
#pragma omp parallel num_threads(threads)
    {
        pack_inputs(x, packed, rows, k);
#pragma omp for schedule(static)
        for (ptrdiff_t block = 0; block < n / WIDTH; block++) {
            float sums[MOST_ROWS * WIDTH];
            memset(sums, 0, sizeof(float) * rows * WIDTH);
            for (ptrdiff_t chunk = 0; chunk < chunks(weight); chunk++)
                add_part(part(weight, block, chunk), packed, rows, k, sums);
            store(sums, bias ? bias + block * WIDTH : 0, y + block * WIDTH, rows, n);
        }
    }
    return 0;
}
