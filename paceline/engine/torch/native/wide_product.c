/* y = x w^T + bias in bf16, of weights in 12 bits (layout.h), for CPUs that have no products of bf16.
 *
 * Numbers are widened to float32, which is exact, and added up with fused multiply-add: the inputs
 * of a chunk in order from zero, then the chunks' sums in order. So a row has the same bits
 * whatever rows are beside it. The number of outputs is a multiple of 64, that of inputs even.
 */
#include "lanes.h"
#include "packing.h"
#include <stdlib.h>

#define FETCH(address) _mm_prefetch((const char *)(address), _MM_HINT_T1)

enum {
    AT_ONCE = 5, /* rows that are multiplied as weights are unpacked */
    FEW = 2 * AT_ONCE, /* up to here weights are unpacked once more for the others */
    GROUP = 6, /* rows whose sums of a quarter of the outputs stay in the 16 registers of the CPU */
    QUARTER = 2 * LANES,
    MOST_CHUNK = 256, /* so that a quarter of it in float32 stays in the nearest cache */
    MOST_ROWS = 240
};

/* Of 8 outputs: weights of the first input of a pair, and of the second. */
typedef struct {
    __m256 one, other;
} Wide;

INLINE Wide widened(__m256i pairs) {
    return (Wide){_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
                  _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(~0xffff)))};
}

/* Weights of a pair of inputs for quarter QUARTER of 64 outputs: of two vectors of 16 outputs (see
 * layout.h) the first halves, or the second ones. */
INLINE void unpack(const uint8_t *low, const uint8_t *codes, __m256i table, int second, Wide to[2]) {
    __m256i both = _mm256_loadu_si256((const __m256i *)codes);
    __m256i each = _mm256_and_si256(second ? _mm256_srli_epi16(both, 4) : both,
                                    _mm256_set1_epi8(15));
    __m256i lows = _mm256_loadu_si256((const __m256i *)(low + 32 * second));
    __m256i highs = _mm256_shuffle_epi8(table, each);
    to[0] = widened(_mm256_unpacklo_epi8(lows, highs));
    to[1] = widened(_mm256_unpackhi_epi8(lows, highs));
}

/* As unpack, of a pair that is kept whole. whole: of the half of 64 outputs. */
INLINE void unpack_whole(const bf16 *whole, int second, Wide to[2]) {
    for (int v = 0; v < 2; v++)
        to[v] = widened(
            _mm256_loadu_si256((const __m256i *)(whole + 32 * v + 2 * LANES * second)));
}

INLINE __m256i table_of(Part of) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)of.table));
}

/* Where the sums of a half's outputs, or a quarter's, lie in 64: vectors of 8, in the order in
 * which unpack gives them. */
INLINE float *place(float *sums, int half, int second, int v) {
    return sums + 32 * half + 16 * v + LANES * second;
}

INLINE void add_to(float *sums, __m256 more) {
    _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_loadu_ps(sums), more));
}

/* Add the products of half of a part's outputs with R rows, or of a quarter's: of `quarters` from
 * the quarter `second` on. The sums stay in registers. x: [inputs][R]. */
INLINE void add_at_once(Part of, int half, int second, int quarters, const float *x, int R,
                        float *sums) {
    __m256 sum[AT_ONCE][4];
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int v = 0; v < 2 * quarters; v++) sum[r][v] = _mm256_setzero_ps();
    const __m256i table = table_of(of);
    const uint8_t *low = of.bytes + half * HALF * of.pairs, *codes = low + LOW * of.pairs;
    const uint8_t *ahead = low + HALF * of.pairs + second * HALF / 2 * of.pairs;
    const bf16 *whole = of.whole + half * NUMBERS / 2;
    for (ptrdiff_t i = 0; i < of.pairs; i++, x += 2 * R) {
        Wide weights[4];
        if (__builtin_expect(i < *of.rare, 1)) {
            for (int q = 0; q < quarters; q++) {
                FETCH(ahead + (i * quarters + q) * HALF / 2);
                unpack(low + i * LOW, codes + i * (HALF - LOW), table, second + q, weights + 2 * q);
            }
        } else {
            for (int q = 0; q < quarters; q++) unpack_whole(whole, second + q, weights + 2 * q);
            whole += NUMBERS;
            of.rare++;
        }
        UNROLLED for (int r = 0; r < R; r++) {
            __m256 one = _mm256_broadcast_ss(x + r);
            UNROLLED for (int v = 0; v < 2 * quarters; v++)
                sum[r][v] = _mm256_fmadd_ps(one, weights[v].one, sum[r][v]);
        }
        UNROLLED for (int r = 0; r < R; r++) {
            __m256 other = _mm256_broadcast_ss(x + R + r);
            UNROLLED for (int v = 0; v < 2 * quarters; v++)
                sum[r][v] = _mm256_fmadd_ps(other, weights[v].other, sum[r][v]);
        }
    }
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int v = 0; v < 2 * quarters; v++)
            add_to(place(sums + r * WIDTH, half, second + v / 2, v % 2), sum[r][v]);
}

/* A quarter of a part's weights: [inputs][QUARTER]. */
INLINE void widen_quarter(Part of, int half, int second, float *to) {
    const __m256i table = table_of(of);
    const uint8_t *low = of.bytes + half * HALF * of.pairs, *codes = low + LOW * of.pairs;
    const bf16 *whole = of.whole + half * NUMBERS / 2;
    for (ptrdiff_t i = 0; i < of.pairs; i++, to += 2 * QUARTER) {
        Wide weights[2];
        if (__builtin_expect(i < *of.rare, 1)) {
            unpack(low + i * LOW, codes + i * (HALF - LOW), table, second, weights);
        } else {
            unpack_whole(whole, second, weights);
            whole += NUMBERS;
            of.rare++;
        }
        for (int v = 0; v < 2; v++) {
            _mm256_store_ps(to + v * LANES, weights[v].one);
            _mm256_store_ps(to + QUARTER + v * LANES, weights[v].other);
        }
    }
}

/* Add the products of a quarter's outputs with R rows, R <= GROUP. x: [inputs][R]. What lies ahead
 * is asked for meanwhile, so that memory is busy. */
INLINE void add_quarter(const float *weights, ptrdiff_t inputs, const float *x, int R,
                        const uint8_t *ahead, float *sums, int half, int second) {
    __m256 sum[GROUP][2];
    UNROLLED for (int r = 0; r < R; r++)
        for (int v = 0; v < 2; v++) sum[r][v] = _mm256_setzero_ps();
    for (ptrdiff_t i = 0; i < inputs; i++, x += R, weights += QUARTER) {
        if (ahead) FETCH(ahead + i * HALF / 4);
        __m256 first = _mm256_load_ps(weights), next = _mm256_load_ps(weights + LANES);
        UNROLLED for (int r = 0; r < R; r++) {
            __m256 input = _mm256_broadcast_ss(x + r);
            sum[r][0] = _mm256_fmadd_ps(input, first, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(input, next, sum[r][1]);
        }
    }
    UNROLLED for (int r = 0; r < R; r++)
        for (int v = 0; v < 2; v++) add_to(place(sums + r * WIDTH, half, second, v), sum[r][v]);
}

static void add_group(const float *weights, ptrdiff_t inputs, const float *x, ptrdiff_t rows,
                      const uint8_t *ahead, float *sums, int half, int second) {
    switch (rows) {
    case 1: add_quarter(weights, inputs, x, 1, ahead, sums, half, second); break;
    case 2: add_quarter(weights, inputs, x, 2, ahead, sums, half, second); break;
    case 3: add_quarter(weights, inputs, x, 3, ahead, sums, half, second); break;
    case 4: add_quarter(weights, inputs, x, 4, ahead, sums, half, second); break;
    case 5: add_quarter(weights, inputs, x, 5, ahead, sums, half, second); break;
    default: add_quarter(weights, inputs, x, 6, ahead, sums, half, second);
    }
}

/* Rows of each group but the last: as alike as can be, and at most GROUP. */
static ptrdiff_t group_of(ptrdiff_t rows) {
    ptrdiff_t most = rows <= FEW ? AT_ONCE : GROUP, groups = (rows + most - 1) / most;
    return (rows + groups - 1) / groups;
}

/* [rows, k] to [groups][k][rows of the group]: what is multiplied together lies together. */
static void pack_inputs(const bf16 *x, float *packed, ptrdiff_t rows, ptrdiff_t k) {
    ptrdiff_t group = group_of(rows);
#pragma omp for schedule(static)
    for (ptrdiff_t row = 0; row < rows; row++) {
        ptrdiff_t first = row / group * group, left = rows - first;
        ptrdiff_t size = left < group ? left : group;
        float *to = packed + first * k + row - first;
        for (ptrdiff_t i = 0; i < k; i++) {
            uint32_t wide = (uint32_t)x[row * k + i] << 16;
            memcpy(to + i * size, &wide, sizeof wide);
        }
    }
}

static void add_at_most_five(Part of, const float *x, ptrdiff_t rows, float *sums) {
    for (int half = 0; half < 2; half++) switch (rows) {
        case 1: add_at_once(of, half, 0, 2, x, 1, sums); break;
        case 2: add_at_once(of, half, 0, 2, x, 2, sums); break;
        case 3: add_at_once(of, half, 0, 2, x, 3, sums); break;
        case 4:
            add_at_once(of, half, 0, 1, x, 4, sums);
            add_at_once(of, half, 1, 1, x, 4, sums);
            break;
        default:
            add_at_once(of, half, 0, 1, x, 5, sums);
            add_at_once(of, half, 1, 1, x, 5, sums);
        }
}

static void add_few(Part of, const float *packed, ptrdiff_t rows, ptrdiff_t k, float *sums) {
    ptrdiff_t group = group_of(rows);
    for (ptrdiff_t first = 0; first < rows; first += group) {
        ptrdiff_t left = rows - first, size = left < group ? left : group;
        add_at_most_five(of, packed + first * k + of.from * size, size, sums + first * WIDTH);
    }
}

/* weights: room for a quarter of a chunk. */
static void add_many(Part of, const float *packed, ptrdiff_t rows, ptrdiff_t k, float *weights,
                     float *sums) {
    ptrdiff_t group = group_of(rows), inputs = 2 * of.pairs;
    for (int quarter = 0; quarter < 4; quarter++) {
        const uint8_t *ahead = of.bytes + (2 + quarter) * HALF / 2 * of.pairs;
        widen_quarter(of, quarter / 2, quarter % 2, weights);
        for (ptrdiff_t first = 0; first < rows; first += group, ahead = 0) {
            ptrdiff_t left = rows - first, size = left < group ? left : group;
            const float *x = packed + first * k + of.from * size;
            add_group(weights, inputs, x, size, ahead, sums + first * WIDTH, quarter / 2,
                      quarter % 2);
        }
    }
}

static void store(const float *sums, const bf16 *bias, bf16 *y, ptrdiff_t rows, ptrdiff_t n) {
    for (ptrdiff_t row = 0; row < rows; row++)
        for (int at = 0; at < WIDTH; at += LANES) {
            __m256 sum = _mm256_loadu_ps(sums + row * WIDTH + at);
            if (bias) sum = _mm256_add_ps(sum, of_bf16(bias + at));
            to_bf16(y + row * n + at, sum);
        }
}

/* x: [rows, k]; packed: as many, in float32; bias: [n] or null; y: [rows, n]. Returns 0, or 1 for
 * more rows or inputs of a chunk than it takes. */
int product(const Weight *weight, const bf16 *x, const bf16 *bias, bf16 *y, float *packed,
            ptrdiff_t rows, int threads) {
    if (rows > MOST_ROWS || weight->chunk > MOST_CHUNK) return 1;
    const ptrdiff_t n = weight->outputs, k = weight->inputs;
#pragma omp parallel num_threads(threads)
    {
        /* Not on the stack: a thread's may be small. */
        float *weights = aligned_alloc(64, sizeof(float) * (MOST_CHUNK * QUARTER + rows * WIDTH));
        if (!weights) abort();
        float *sums = weights + MOST_CHUNK * QUARTER;
        pack_inputs(x, packed, rows, k);
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < n / WIDTH; block++) {
            memset(sums, 0, sizeof(float) * rows * WIDTH);
            for (ptrdiff_t chunk = 0; chunk < chunks(weight); chunk++) {
                Part of = part(weight, block, chunk);
                if (rows <= FEW) add_few(of, packed, rows, k, sums);
                else add_many(of, packed, rows, k, weights, sums);
            }
            store(sums, bias ? bias + block * WIDTH : 0, y + block * WIDTH, rows, n);
        }
        free(weights);
    }
    return 0;
}
