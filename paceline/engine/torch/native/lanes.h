/* Eight numbers at a time, for CPUs with AVX2 and FMA: bf16 in memory, float32 in between. */
#ifndef LANES_H
#define LANES_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

typedef uint16_t bf16;

enum { LANES = 8 };

INLINE __m256 of_bf16(const bf16 *from) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* To the nearest bf16, or the even one of two; of a NaN, one. In the upper halves of 32 bits. */
INLINE __m256i rounded(__m256 x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(up, _mm256_set1_epi32(0x7fc00000), nan);
}

/* As a number of float32 that bf16 has. */
INLINE __m256 in_bf16(__m256 x) {
    return _mm256_castsi256_ps(_mm256_and_si256(rounded(x), _mm256_set1_epi32(~0xffff)));
}

INLINE void to_bf16(bf16 *to, __m256 x) {
    __m256i halves = _mm256_srli_epi32(rounded(x), 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 8);
    _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(packed));
}

INLINE float total(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float greatest(__m256 x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* e^x within 2^-22 of it: 2^n times a polynomial of the rest, within half of ln 2 of zero. Of less
 * than -87, as of -87; of more than 88, as of 88. After Cephes (Moshier 1984). */
INLINE __m256 exponential(__m256 x) {
    static const float TERMS[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                  4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    x = _mm256_min_ps(_mm256_set1_ps(88), _mm256_max_ps(_mm256_set1_ps(-87), x)); /* a NaN stays */
    __m256 whole = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 rest = _mm256_fnmadd_ps(whole, _mm256_set1_ps(0.693359375f), x);
    rest = _mm256_fnmadd_ps(whole, _mm256_set1_ps(-2.12194440e-4f), rest);
    __m256 sum = _mm256_set1_ps(TERMS[0]);
    for (int i = 1; i < 6; i++) sum = _mm256_fmadd_ps(sum, rest, _mm256_set1_ps(TERMS[i]));
    sum = _mm256_fmadd_ps(sum, _mm256_mul_ps(rest, rest), rest);
    sum = _mm256_add_ps(sum, _mm256_set1_ps(1));
    __m256i power = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_mul_ps(sum, _mm256_castsi256_ps(_mm256_slli_epi32(power, 23)));
}
#endif
