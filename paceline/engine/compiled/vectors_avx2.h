/* A Vector with AVX2, FMA and F16C. */
typedef struct {
    __m256 low, high;
} Vector;

INLINE Vector zeros(void) { return (Vector){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE Vector same(float number) { return (Vector){_mm256_set1_ps(number), _mm256_set1_ps(number)}; }
INLINE Vector load(const float *from) {
    return (Vector){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}
INLINE void store(float *to, Vector from) {
    _mm256_storeu_ps(to, from.low);
    _mm256_storeu_ps(to + 8, from.high);
}
INLINE float first_of(Vector x) { return _mm256_cvtss_f32(x.low); }

/* A function of two Vectors, from one of their halves. */
#define OF_HALVES(name, half)                                                                      \
    INLINE Vector name(Vector x, Vector y) {                                                       \
        return (Vector){half(x.low, y.low), half(x.high, y.high)};                                 \
    }
OF_HALVES(plus, _mm256_add_ps)
OF_HALVES(minus, _mm256_sub_ps)
OF_HALVES(times, _mm256_mul_ps)
OF_HALVES(over, _mm256_div_ps)
OF_HALVES(larger, _mm256_max_ps)
OF_HALVES(smaller, _mm256_min_ps)

INLINE Vector times_plus(Vector x, Vector y, Vector z) {
    return (Vector){_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high)};
}

INLINE float sum_of(Vector x) {
    __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float largest_of(Vector x) {
    __m256 eight = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

INLINE Vector magnitude(Vector x) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (Vector){_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
}

INLINE Vector nearest(Vector x) {
    enum { HOW = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (Vector){_mm256_round_ps(x.low, HOW), _mm256_round_ps(x.high, HOW)};
}

/* x * 2^power, for whole numbers from -126 to 127. */
INLINE __m256 half_times_power_of_two(__m256 x, __m256 power) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
OF_HALVES(times_power_of_two, half_times_power_of_two)

INLINE __m256 half_of_bf16(const bf16 *from) {
    __m256i numbers = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(numbers, 16));
}

INLINE Vector of_bf16(const bf16 *from) {
    return (Vector){half_of_bf16(from), half_of_bf16(from + 8)};
}

/* To the nearest, and to the even one of two. */
INLINE bf16 one_to_bf16(float from) {
    union {
        float number;
        uint32_t bits;
    } as = {from};
    return (bf16)((as.bits + 0x7fff + (as.bits >> 16 & 1)) >> 16);
}

/* Whole numbers next to those of x, which are within 127 of zero. */
INLINE void store_codes(int8_t *to, Vector x) {
    __m256i by_lane = _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high));
    __m256i in_order = _mm256_permute4x64_epi64(by_lane, _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storeu_si128((__m128i *)to, _mm_packs_epi16(_mm256_castsi256_si128(in_order),
                                                    _mm256_extracti128_si256(in_order, 1)));
}

/* Two neighbours, as add_pairs takes them. */
typedef struct {
    float first, second;
} Pair;

INLINE void store_pairs(Pair *to, Vector from) { store((float *)to, from); }

INLINE __m256 half_add_pairs(__m256 sum, const bf16 *pairs, Pair one) {
    __m256i both = _mm256_loadu_si256((const __m256i *)pairs);
    __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    __m256 second = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)));
    sum = _mm256_fmadd_ps(first, _mm256_set1_ps(one.first), sum);
    return _mm256_fmadd_ps(second, _mm256_set1_ps(one.second), sum);
}

/* sum + first * first + second * second of sixteen pairs with one. */
INLINE Vector add_pairs(Vector sum, const bf16 *pairs, Pair one) {
    return (Vector){half_add_pairs(sum.low, pairs, one), half_add_pairs(sum.high, pairs + 16, one)};
}

INLINE __m256 half_within(__m256 x, ptrdiff_t at, ptrdiff_t first, ptrdiff_t end) {
    const __m256i lanes = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    __m256i places = _mm256_add_epi32(lanes, _mm256_set1_epi32((int)at));
    __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)first), places);
    __m256i seen = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), places);
    __m256 mask = _mm256_castsi256_ps(_mm256_andnot_si256(before, seen));
    return _mm256_blendv_ps(_mm256_set1_ps(-FLT_MAX), x, mask);
}

/* Numbers of x from place `first` to before `end`, where x begins at `at`; elsewhere -FLT_MAX. */
INLINE Vector within(Vector x, ptrdiff_t at, ptrdiff_t first, ptrdiff_t end) {
    return (Vector){half_within(x.low, at, first, end), half_within(x.high, at + 8, first, end)};
}

INLINE __m256 half_where_within(__m256 x, __m256 y) {
    return _mm256_and_ps(x, _mm256_cmp_ps(y, _mm256_set1_ps(-FLT_MAX), _CMP_GT_OQ));
}
/* x where y was found within; elsewhere 0. */
OF_HALVES(where_within, half_where_within)
