/* y = x w^T + bias for few rows, in bf16, read straight from the layout of oneDNN.
 *
 * With few rows the time is that of reading the weights once. w: [n / 64][k / 2][64][2], as oneDNN
 * reorders a weight [n, k]; x: [rows, k]; bias: [n] or null; y: [rows, n]. Sums are those of oneDNN
 * bit by bit: pairs in order within `chunk` inputs from zero, and the chunks' sums in order. That
 * is compared before it is used. n is a multiple of 64, k is even.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t bf16;
typedef int32_t pair; /* of inputs */

enum { WIDTH = 64, VECTORS = WIDTH / 16, MOST_ROWS = 24, AHEAD = 64 };

/* Add the products of a chunk with V of its vectors of outputs to sums [R][WIDTH]. The R * V
 * accumulators fit the 32 registers of the CPU. What a chunk read in one go needs next is asked for
 * nearby; what is read in several goes lies far away, and each go asks for its own part of it, so
 * that memory has as much to do in each. */
#define DEFINE_ADD(R, V)                                                                           \
    static void add_##R(const bf16 *w, const pair *x, ptrdiff_t pairs, float *sums) {              \
        __m512 sum[R][V];                                                                          \
        UNROLLED for (int r = 0; r < R; r++)                                                       \
            for (int v = 0; v < V; v++) sum[r][v] = _mm512_setzero_ps();                           \
        for (ptrdiff_t i = 0; i < pairs; i++, w += 2 * WIDTH, x += R) {                            \
            __m512bh weight[V];                                                                    \
            for (int v = 0; v < V; v++) {                                                          \
                const bf16 *next = w + v * 32 + AHEAD * 2 * WIDTH;                                 \
                if (V == VECTORS) _mm_prefetch((const char *)next, _MM_HINT_T0);                   \
                else _mm_prefetch((const char *)next, _MM_HINT_T1);                                \
                weight[v] = (__m512bh)_mm512_loadu_si512(w + v * 32);                              \
            }                                                                                      \
            UNROLLED for (int r = 0; r < R; r++) {                                                 \
                __m512bh input = (__m512bh)_mm512_set1_epi32(x[r]);                                \
                for (int v = 0; v < V; v++)                                                        \
                    sum[r][v] = _mm512_dpbf16_ps(sum[r][v], input, weight[v]);                     \
            }                                                                                      \
        }                                                                                          \
        UNROLLED for (int r = 0; r < R; r++)                                                       \
            for (int v = 0; v < V; v++) {                                                          \
                float *to = sums + r * WIDTH + v * 16;                                             \
                _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum[r][v]));               \
            }                                                                                      \
    }
/* Beyond 16 turns the compiler leaves a loop, and its accumulators in memory, unless it is told. */
#define UNROLLED _Pragma("GCC unroll 24")
#define EACH_COUNT(DO)                                                                             \
    DO(1, 4) DO(2, 4) DO(3, 4) DO(4, 4) DO(5, 4) DO(6, 4)                                          \
    DO(7, 2) DO(8, 2) DO(9, 2) DO(10, 2) DO(11, 2) DO(12, 2)                                       \
    DO(13, 1) DO(14, 1) DO(15, 1) DO(16, 1) DO(17, 1) DO(18, 1)                                    \
    DO(19, 1) DO(20, 1) DO(21, 1) DO(22, 1) DO(23, 1) DO(24, 1)
EACH_COUNT(DEFINE_ADD)

typedef void (*Add)(const bf16 *, const pair *, ptrdiff_t, float *);
typedef struct {
    Add add;
    int vectors;
} Tile;
#define TILE(R, V) [R] = {add_##R, V},
static const Tile TILES[MOST_ROWS + 1] = {EACH_COUNT(TILE)};

static void add_chunk(const bf16 *w, const pair *x, ptrdiff_t rows, ptrdiff_t pairs, float *sums) {
    Tile tile = TILES[rows];
    for (int v = 0; v < VECTORS; v += tile.vectors) tile.add(w + v * 32, x, pairs, sums + v * 16);
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

/* packed: [k / 2][rows], for the inputs as they are read. Returns 0, or 1 for sizes that it does not
 * take. */
int product(const bf16 *w, const bf16 *x, const bf16 *bias, bf16 *y, pair *packed, ptrdiff_t rows,
            ptrdiff_t n, ptrdiff_t k, ptrdiff_t chunk, int threads) {
    if (rows < 1 || rows > MOST_ROWS || n % WIDTH || k % 2 || chunk < 2 || chunk % 2 || threads < 1)
        return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (ptrdiff_t i = 0; i < k / 2; i++)
            for (ptrdiff_t row = 0; row < rows; row++)
                __builtin_memcpy(packed + i * rows + row, x + row * k + 2 * i, sizeof(pair));
#pragma omp for schedule(static)
        for (ptrdiff_t block = 0; block < n / WIDTH; block++) {
            float sums[MOST_ROWS * WIDTH] = {0};
            for (ptrdiff_t from = 0; from < k; from += chunk) {
                ptrdiff_t pairs = (k - from < chunk ? k - from : chunk) / 2;
                const bf16 *part = w + (block * k + from) * WIDTH;
                add_chunk(part, packed + from / 2 * rows, rows, pairs, sums);
            }
            store(sums, bias ? bias + block * WIDTH : 0, y + block * WIDTH, rows, n);
        }
    }
    return 0;
}
