/* Sixteen numbers at a time: what a Vector is depends on the CPU. */
#ifndef VECTORS_H
#define VECTORS_H
#include <float.h>
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16;
typedef uint16_t fp16;
/* Four codes, or two of bf16, that are read as one. */
typedef int32_t __attribute__((may_alias)) Four;

/* Both have the same functions. */
#ifdef __AVX512F__
#include "vectors_avx512.h"
#else
#include "vectors_avx2.h"
#endif

/* e^x for x <= 88, within 2^-17 of it: 2^n times a polynomial of the rest, within half of zero. */
INLINE Vector exponential(Vector x) {
    static const float TERMS[] = {1.33336e-3f,  9.61812e-3f,  5.55041e-2f,
                                  2.402265e-1f, 6.931472e-1f, 1.0f};
    Vector power = times(larger(x, same(-87)), same(1.44269504f));
    Vector whole = nearest(power);
    Vector rest = minus(power, whole), sum = same(TERMS[0]);
    for (int i = 1; i < 6; i++) sum = times_plus(sum, rest, same(TERMS[i]));
    return times_power_of_two(sum, whole);
}

/* x / (1 + e^-x) */
INLINE Vector silu(Vector x) {
    Vector below = smaller(minus(zeros(), x), same(80));
    return over(x, plus(same(1), exponential(below)));
}
#endif
