/* Attention of a row to the KV of its session, which lies in pages of PAGE tokens.
 *
 * Of a page, a layer and a KV head: keys as [PAGE / 16][head_dim / 2][16][2], so that sixteen
 * tokens are compared at once; then values as [PAGE / 2][head_dim][2]. All in bf16.
 */
#ifndef ATTENTION_H
#define ATTENTION_H
#include <float.h>
#include <string.h>
#include "quantized.h"

enum { PAGE = 512, MOST_HEAD = 256 };

INLINE void write_key(bf16 *keys, ptrdiff_t token, const float *key, ptrdiff_t head_dim) {
    bf16 *block = keys + token / 16 * 16 * head_dim + token % 16 * 2;
    for (ptrdiff_t i = 0; i < head_dim; i++) block[i / 2 * 32 + i % 2] = one_to_bf16(key[i]);
}

INLINE void write_value(bf16 *values, ptrdiff_t token, const float *value, ptrdiff_t head_dim) {
    bf16 *pair = values + token / 2 * 2 * head_dim + token % 2;
    for (ptrdiff_t i = 0; i < head_dim; i++) pair[2 * i] = one_to_bf16(value[i]);
}

/* Scores of 16 tokens. query: pairs of bf16. */
INLINE __m512 scores_of(const bf16 *block, const Four *query, ptrdiff_t head_dim) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (ptrdiff_t i = 0; i < head_dim / 2; i += 2) {
        even = _mm512_dpbf16_ps(even, (__m512bh)_mm512_loadu_si512(block + i * 32),
                                (__m512bh)_mm512_set1_epi32(query[i]));
        odd = _mm512_dpbf16_ps(odd, (__m512bh)_mm512_loadu_si512(block + i * 32 + 32),
                               (__m512bh)_mm512_set1_epi32(query[i + 1]));
    }
    return _mm512_add_ps(even, odd);
}

/* Online softmax (Milakov and Gimelshein 2018) over pages. */
typedef struct {
    float most, total;
    float sums[MOST_HEAD];
} Attended;

/* Attend to tokens from `first` to before `end` of a page. */
INLINE void attend_page(Attended *to, const bf16 *keys, const bf16 *values, const Four *query,
                        ptrdiff_t first, ptrdiff_t end, ptrdiff_t head_dim) {
    float scores[PAGE];
    ptrdiff_t begin = first / 16 * 16, stop = (end + 15) / 16 * 16;
    __m512 most = _mm512_set1_ps(to->most);
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (ptrdiff_t token = begin; token < stop; token += 16) {
        __m512i at = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)token));
        __mmask16 seen = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32((int)first)) &
                         _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32((int)end));
        __m512 found = _mm512_mask_blend_ps(seen, _mm512_set1_ps(-FLT_MAX),
                                            scores_of(keys + token * head_dim, query, head_dim));
        most = _mm512_max_ps(most, found);
        _mm512_storeu_ps(scores + token - begin, found);
    }
    float new_most = _mm512_reduce_max_ps(most);
    __m512 total = _mm512_setzero_ps(), shrink = exponential(_mm512_set1_ps(to->most - new_most));
    bf16 weights[PAGE];
    for (ptrdiff_t i = 0; i < stop - begin; i += 16) {
        __m512 score = _mm512_loadu_ps(scores + i);
        __mmask16 seen = _mm512_cmp_ps_mask(score, _mm512_set1_ps(-FLT_MAX), _CMP_GT_OQ);
        __m512 weight =
            _mm512_maskz_mov_ps(seen, exponential(_mm512_sub_ps(score, _mm512_set1_ps(new_most))));
        total = _mm512_add_ps(total, weight);
        _mm256_storeu_si256((__m256i *)(weights + i), to_bf16(weight));
    }
    to->total = to->total * _mm512_cvtss_f32(shrink) + _mm512_reduce_add_ps(total);
    to->most = new_most;
    const Four *pairs = (const Four *)weights;
    for (ptrdiff_t at = 0; at < head_dim; at += 64) {
        int vectors = head_dim - at < 64 ? (int)(head_dim - at) / 16 : 4;
        __m512 sums[4];
        for (int v = 0; v < 4; v++)
            sums[v] = v < vectors ? _mm512_mul_ps(_mm512_loadu_ps(to->sums + at + 16 * v), shrink)
                                  : _mm512_setzero_ps();
        for (ptrdiff_t i = 0; i < (stop - begin) / 2; i++) {
            const bf16 *value = values + (begin / 2 + i) * 2 * head_dim + 2 * at;
            __m512bh weight = (__m512bh)_mm512_set1_epi32(pairs[i]);
            for (int v = 0; v < 4; v++)
                if (v < vectors)
                    sums[v] = _mm512_dpbf16_ps(sums[v], weight,
                                               (__m512bh)_mm512_loadu_si512(value + 32 * v));
        }
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(to->sums + at + 16 * v, sums[v]);
    }
}
#endif
