/* What lies between the products of a decoder's layer, on rows of bf16: a row alone decides its
 * bits. Rounded to bf16 where modules of transformers round. Widths are multiples of 16.
 */
#include "lanes.h"
#include <math.h>

enum { MANY = 8 }; /* rows from which threads pay */

#define EACH_ROW                                                                                   \
    _Pragma("omp parallel for schedule(static) num_threads(threads) if (rows >= MANY)")            \
    for (ptrdiff_t row = 0; row < rows; row++)

/* RMSNorm (Zhang and Sennrich 2019) of a row. */
static void normalize_row(const bf16 *x, const bf16 *weight, bf16 *y, ptrdiff_t width,
                          float epsilon) {
    __m256 squares = _mm256_setzero_ps();
    for (ptrdiff_t i = 0; i < width; i += LANES) {
        __m256 part = of_bf16(x + i);
        squares = _mm256_fmadd_ps(part, part, squares);
    }
    __m256 root = _mm256_set1_ps(1 / sqrtf(total(squares) / (float)width + epsilon));
    for (ptrdiff_t i = 0; i < width; i += LANES) {
        __m256 normed = in_bf16(_mm256_mul_ps(of_bf16(x + i), root));
        to_bf16(y + i, _mm256_mul_ps(normed, of_bf16(weight + i)));
    }
}

/* x, y: [rows, width]. */
void normalize(const bf16 *x, const bf16 *weight, bf16 *y, ptrdiff_t rows, ptrdiff_t width,
               float epsilon, int threads) {
    EACH_ROW normalize_row(x + row * width, weight, y + row * width, width, epsilon);
}

/* sum = x + more, y = its RMSNorm: all [rows, width]. */
void add_and_normalize(const bf16 *x, const bf16 *more, const bf16 *weight, bf16 *sum, bf16 *y,
                       ptrdiff_t rows, ptrdiff_t width, float epsilon, int threads) {
    EACH_ROW {
        const bf16 *one = x + row * width, *other = more + row * width;
        bf16 *to = sum + row * width;
        for (ptrdiff_t i = 0; i < width; i += LANES)
            to_bf16(to + i, _mm256_add_ps(of_bf16(one + i), of_bf16(other + i)));
        normalize_row(to, weight, y + row * width, width, epsilon);
    }
}

INLINE __m256 turned(__m256 x, __m256 other, const bf16 *cosine, const bf16 *sine) {
    return _mm256_fmadd_ps(other, of_bf16(sine), in_bf16(_mm256_mul_ps(x, of_bf16(cosine))));
}

/* Rotary position embedding (Su et al. 2021), in place. x: [rows][heads][dim], rows `stride` apart;
 * cosines, sines: [rows, dim]; sines of the first half are negated. */
void rotate(bf16 *x, const bf16 *cosines, const bf16 *sines, ptrdiff_t rows, ptrdiff_t stride,
            ptrdiff_t heads, ptrdiff_t dim, int threads) {
    EACH_ROW for (ptrdiff_t head = 0; head < heads; head++)
        for (ptrdiff_t i = 0; i < dim / 2; i += LANES) {
            bf16 *one = x + row * stride + head * dim + i, *other = one + dim / 2;
            __m256 first = of_bf16(one), second = of_bf16(other);
            const bf16 *cosine = cosines + row * dim + i, *sine = sines + row * dim + i;
            to_bf16(one, turned(first, second, cosine, sine));
            to_bf16(other, turned(second, first, cosine + dim / 2, sine + dim / 2));
        }
}

/* silu(gate) * up. x: [rows][gate and up of `width` each]; y: [rows, width]. */
void gate(const bf16 *x, bf16 *y, ptrdiff_t rows, ptrdiff_t width, int threads) {
    EACH_ROW for (ptrdiff_t i = 0; i < width; i += LANES) {
        __m256 gate = of_bf16(x + row * 2 * width + i);
        __m256 below = exponential(_mm256_sub_ps(_mm256_setzero_ps(), gate));
        __m256 silu = _mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1), below));
        __m256 up = of_bf16(x + row * 2 * width + width + i);
        to_bf16(y + row * width + i, _mm256_mul_ps(in_bf16(silu), up));
    }
}
