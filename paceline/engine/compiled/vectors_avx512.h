/* A Vector with AVX-512 and bfloat16. */
typedef __m512 Vector;

INLINE Vector zeros(void) { return _mm512_setzero_ps(); }
INLINE Vector same(float number) { return _mm512_set1_ps(number); }
INLINE Vector load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store(float *to, Vector from) { _mm512_storeu_ps(to, from); }
INLINE float first_of(Vector x) { return _mm512_cvtss_f32(x); }
INLINE float sum_of(Vector x) { return _mm512_reduce_add_ps(x); }
INLINE float largest_of(Vector x) { return _mm512_reduce_max_ps(x); }
INLINE Vector magnitude(Vector x) { return _mm512_abs_ps(x); }
INLINE Vector plus(Vector x, Vector y) { return _mm512_add_ps(x, y); }
INLINE Vector minus(Vector x, Vector y) { return _mm512_sub_ps(x, y); }
INLINE Vector times(Vector x, Vector y) { return _mm512_mul_ps(x, y); }
INLINE Vector over(Vector x, Vector y) { return _mm512_div_ps(x, y); }
INLINE Vector larger(Vector x, Vector y) { return _mm512_max_ps(x, y); }
INLINE Vector smaller(Vector x, Vector y) { return _mm512_min_ps(x, y); }
INLINE Vector times_plus(Vector x, Vector y, Vector z) { return _mm512_fmadd_ps(x, y, z); }

INLINE Vector nearest(Vector x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE Vector times_power_of_two(Vector x, Vector power) { return _mm512_scalef_ps(x, power); }

INLINE Vector of_bf16(const bf16 *from) {
    __m256i half = _mm256_loadu_si256((const __m256i *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

INLINE bf16 one_to_bf16(float from) {
    return (bf16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(from)), 0);
}

/* Whole numbers next to those of x, which are within 127 of zero. */
INLINE void store_codes(int8_t *to, Vector x) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

/* Two neighbours, as add_pairs takes them. */
typedef Four Pair;

INLINE void store_pairs(Pair *to, Vector from) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(from));
}

/* sum + first * first + second * second of sixteen pairs with one. */
INLINE Vector add_pairs(Vector sum, const bf16 *pairs, Pair one) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(pairs),
                            (__m512bh)_mm512_set1_epi32(one));
}

/* Numbers of x from place `first` to before `end`, where x begins at `at`; elsewhere -FLT_MAX. */
INLINE Vector within(Vector x, ptrdiff_t at, ptrdiff_t first, ptrdiff_t end) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)at));
    __mmask16 seen = _mm512_cmpge_epi32_mask(places, _mm512_set1_epi32((int)first)) &
                     _mm512_cmplt_epi32_mask(places, _mm512_set1_epi32((int)end));
    return _mm512_mask_blend_ps(seen, _mm512_set1_ps(-FLT_MAX), x);
}

/* x where y was found within; elsewhere 0. */
INLINE Vector where_within(Vector x, Vector y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, _mm512_set1_ps(-FLT_MAX), _CMP_GT_OQ), x);
}
