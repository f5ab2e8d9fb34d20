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

enum { WIDTH = 64, VECTORS = WIDTH / 16, GROUP = 6, MOST_ROWS = 12, AHEAD = 32 };

/* Add the products of `pairs` pairs of inputs to sums [R][WIDTH]. R accumulators of VECTORS
 * registers fit the 32 of the CPU up to GROUP. */
#define DEFINE_ADD(R)                                                                              \
    static void add_##R(const bf16 *w, const bf16 *x, ptrdiff_t pairs, ptrdiff_t k, float *sums) { \
        __m512 sum[R][VECTORS];                                                                    \
        for (int r = 0; r < R; r++)                                                                \
            for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_setzero_ps();                     \
        for (ptrdiff_t pair = 0; pair < pairs; pair++, w += 2 * WIDTH) {                           \
            __m512bh weight[VECTORS];                                                              \
            for (int v = 0; v < VECTORS; v++) {                                                    \
                _mm_prefetch((const char *)(w + v * 32 + AHEAD * 2 * WIDTH), _MM_HINT_T0);         \
                weight[v] = (__m512bh)_mm512_loadu_si512(w + v * 32);                              \
            }                                                                                      \
            for (int r = 0; r < R; r++) {                                                          \
                int32_t two;                                                                       \
                __builtin_memcpy(&two, x + r * k + 2 * pair, sizeof two);                          \
                __m512bh input = (__m512bh)_mm512_set1_epi32(two);                                 \
                for (int v = 0; v < VECTORS; v++)                                                  \
                    sum[r][v] = _mm512_dpbf16_ps(sum[r][v], input, weight[v]);                     \
            }                                                                                      \
        }                                                                                          \
        for (int r = 0; r < R; r++)                                                                \
            for (int v = 0; v < VECTORS; v++) {                                                    \
                float *to = sums + r * WIDTH + v * 16;                                             \
                _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum[r][v]));               \
            }                                                                                      \
    }
DEFINE_ADD(1) DEFINE_ADD(2) DEFINE_ADD(3) DEFINE_ADD(4) DEFINE_ADD(5) DEFINE_ADD(6)

typedef void (*Add)(const bf16 *, const bf16 *, ptrdiff_t, ptrdiff_t, float *);
static const Add ADD[] = {0, add_1, add_2, add_3, add_4, add_5, add_6};

static void add_chunk(const bf16 *w, const bf16 *x, ptrdiff_t rows, ptrdiff_t pairs, ptrdiff_t k,
                      float *sums) {
    for (ptrdiff_t row = 0, count; row < rows; row += count) {
        ptrdiff_t left = rows - row;
        count = left <= GROUP ? left : left < 2 * GROUP ? (left + 1) / 2 : GROUP;
        ADD[count](w, x + row * k, pairs, k, sums + row * WIDTH);
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

/* Returns 0, or 1 for sizes that it does not take. */
int product(const bf16 *w, const bf16 *x, const bf16 *bias, bf16 *y, ptrdiff_t rows, ptrdiff_t n,
            ptrdiff_t k, ptrdiff_t chunk, int threads) {
    if (rows > MOST_ROWS || n % WIDTH || k % 2 || chunk < 2 || chunk % 2 || threads < 1) return 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t block = 0; block < n / WIDTH; block++) {
        float sums[MOST_ROWS * WIDTH] = {0};
        for (ptrdiff_t from = 0; from < k; from += chunk) {
            ptrdiff_t pairs = (k - from < chunk ? k - from : chunk) / 2;
            add_chunk(w + (block * k + from) * WIDTH, x + from, rows, pairs, k, sums);
        }
        store(sums, bias ? bias + block * WIDTH : 0, y + block * WIDTH, rows, n);
    }
    return 0;
}
