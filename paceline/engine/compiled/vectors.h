/* Sixteen numbers at a time. */
#ifndef VECTORS_H
#define VECTORS_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16;
typedef uint16_t fp16;
/* Four codes, or two of bf16, that are read as one. */
typedef int32_t __attribute__((may_alias)) Four;

INLINE __m512 of_bf16(const bf16 *from) {
    __m256i half = _mm256_loadu_si256((const __m256i *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

INLINE __m512 of_fp16(const fp16 *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}

INLINE __m256i to_bf16(__m512 from) { return (__m256i)_mm512_cvtneps_pbh(from); }

INLINE bf16 one_to_bf16(float from) {
    return (bf16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(from)), 0);
}

/* e^x for x <= 88, within 2^-17 of it: 2^n times a polynomial of the rest, within half of zero. */
INLINE __m512 exponential(__m512 x) {
    static const float TERMS[] = {1.33336e-3f,  9.61812e-3f,  5.55041e-2f,
                                  2.402265e-1f, 6.931472e-1f, 1.0f};
    __m512 power =
        _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-87)), _mm512_set1_ps(1.44269504f));
    __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(power, whole), sum = _mm512_set1_ps(TERMS[0]);
    for (int i = 1; i < 6; i++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(TERMS[i]));
    return _mm512_scalef_ps(sum, whole);
}

/* x / (1 + e^-x) */
INLINE __m512 silu(__m512 x) {
    __m512 below = _mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), x), _mm512_set1_ps(80));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), exponential(below)));
}
#endif
