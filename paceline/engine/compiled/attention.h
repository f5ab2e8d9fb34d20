/* Attention of a row to the KV of its session, which lies in pages of PAGE tokens.
 *
 * Of a page, a layer and a KV head: keys as [PAGE / 16][head_dim / 2][16][2], so that sixteen
 * tokens are compared at once; then values as [PAGE / 2][head_dim][2]. All in bf16.
 */
#ifndef ATTENTION_H
#define ATTENTION_H
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

/* Scores of 16 tokens. */
INLINE Vector scores_of(const bf16 *block, const Pair *query, ptrdiff_t head_dim) {
    Vector even = zeros(), odd = zeros();
    for (ptrdiff_t i = 0; i < head_dim / 2; i += 2) {
        even = add_pairs(even, block + i * 32, query[i]);
        odd = add_pairs(odd, block + i * 32 + 32, query[i + 1]);
    }
    return plus(even, odd);
}

/* Online softmax (Milakov and Gimelshein 2018) over pages. */
typedef struct {
    float most, total;
    float sums[MOST_HEAD];
} Attended;

/* Attend to tokens from `first` to before `end` of a page. */
INLINE void attend_page(Attended *to, const bf16 *keys, const bf16 *values, const Pair *query,
                        ptrdiff_t first, ptrdiff_t end, ptrdiff_t head_dim) {
    float scores[PAGE];
    ptrdiff_t begin = first / 16 * 16, stop = (end + 15) / 16 * 16;
    Vector most = same(to->most);
    for (ptrdiff_t token = begin; token < stop; token += 16) {
        Vector found = scores_of(keys + token * head_dim, query, head_dim);
        found = within(found, token, first, end);
        most = larger(most, found);
        store(scores + token - begin, found);
    }
    float new_most = largest_of(most);
    Vector total = zeros(), shrink = exponential(same(to->most - new_most));
    Pair weights[PAGE / 2];
    for (ptrdiff_t i = 0; i < stop - begin; i += 16) {
        Vector score = load(scores + i);
        Vector weight = where_within(exponential(minus(score, same(new_most))), score);
        total = plus(total, weight);
        store_pairs(weights + i / 2, weight);
    }
    to->total = to->total * first_of(shrink) + sum_of(total);
    to->most = new_most;
    for (ptrdiff_t at = 0; at < head_dim; at += 64) {
        int vectors = head_dim - at < 64 ? (int)(head_dim - at) / 16 : 4;
        Vector sums[4];
        for (int v = 0; v < 4; v++)
            sums[v] = v < vectors ? times(load(to->sums + at + 16 * v), shrink) : zeros();
        for (ptrdiff_t i = 0; i < (stop - begin) / 2; i++) {
            const bf16 *value = values + (begin / 2 + i) * 2 * head_dim + 2 * at;
            for (int v = 0; v < 4; v++)
                if (v < vectors) sums[v] = add_pairs(sums[v], value + 32 * v, weights[i]);
        }
        for (int v = 0; v < vectors; v++) store(to->sums + at + 16 * v, sums[v]);
    }
}
#endif
