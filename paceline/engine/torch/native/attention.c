/* Causal attention of a step's rows to the KV of their sessions, in bf16 with float32 inside.
 *
 * A row's scores are summed eight lanes at a time over a head, its softmax (online: Milakov and
 * Gimelshein 2018) and values in tiles of TILE keys from the session's first. So a row has the same
 * bits whatever rows and sessions are beside it. Heads are multiples of 16, up to MOST_HEAD.
 */
#include "lanes.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 64, BLOCK = 48, MOST_HEAD = 256, QUERIES = 3, KEYS = 4, WEIGHED = 6 };

/* Rows of one session at consecutive positions: of a step's span, or of a branch. */
typedef struct {
    bf16 *keys, *values; /* of earlier positions: [KV heads], `apart` from each other, [dim] each */
    ptrdiff_t apart;
    ptrdiff_t row, rows, position;
    ptrdiff_t keeps; /* whether the rows' own KV is written to `keys` and `values` */
} Piece;

/* Of rows [heads][dim], which lie `apart` from each other. */
typedef struct {
    const bf16 *first;
    ptrdiff_t apart;
} Heads;

typedef struct {
    Heads query, key, value;
    bf16 *y; /* [rows][heads][dim] */
    const Piece *pieces;
    ptrdiff_t count, heads, kv_heads, dim;
    ptrdiff_t window; /* positions that a row sees, its own too; 0: all */
    float scale;
} Attention;

/* Some queries of a piece for one KV head: row by row, of each the heads of its group. */
typedef struct {
    const Piece *piece;
    ptrdiff_t kv_head, first, count;
} Block;

typedef struct {
    float query[BLOCK][MOST_HEAD], sums[BLOCK][MOST_HEAD], weights[BLOCK][TILE];
    float most[BLOCK], total[BLOCK];
    const bf16 *keys[TILE], *values[TILE];
} Work;

static ptrdiff_t group_of(const Attention *a) { return a->heads / a->kv_heads; }

static const bf16 *head_of(const Attention *a, Heads of, ptrdiff_t row, ptrdiff_t head) {
    return of.first + row * of.apart + head * a->dim;
}

static ptrdiff_t position_of(const Attention *a, Block b, ptrdiff_t query) {
    return b.piece->position + (b.first + query) / group_of(a);
}

static ptrdiff_t first_seen(const Attention *a, ptrdiff_t position) {
    return a->window && position >= a->window ? position - a->window + 1 : 0;
}

static void begin(const Attention *a, Block b, Work *w) {
    for (ptrdiff_t q = 0; q < b.count; q++) {
        ptrdiff_t each = b.first + q, head = b.kv_head * group_of(a) + each % group_of(a);
        const bf16 *from = head_of(a, a->query, b.piece->row + each / group_of(a), head);
        for (ptrdiff_t i = 0; i < a->dim; i += LANES)
            _mm256_storeu_ps(w->query[q] + i,
                             _mm256_mul_ps(of_bf16(from + i), _mm256_set1_ps(a->scale)));
        memset(w->sums[q], 0, sizeof(float) * a->dim);
        w->most[q] = -FLT_MAX;
        w->total[q] = 0;
    }
}

/* Where keys and values of `count` positions from `from` on lie. */
static void find(const Attention *a, Block b, ptrdiff_t from, ptrdiff_t count, Work *w) {
    const Piece *p = b.piece;
    for (ptrdiff_t i = 0; i < count; i++) {
        ptrdiff_t at = from + i, kept = b.kv_head * p->apart + at * a->dim;
        int is_own = at >= p->position;
        ptrdiff_t row = p->row + at - p->position;
        w->keys[i] = is_own ? head_of(a, a->key, row, b.kv_head) : p->keys + kept;
        w->values[i] = is_own ? head_of(a, a->value, row, b.kv_head) : p->values + kept;
    }
}

/* Scores of Q queries from `query` on with KEYS keys from `key` on; of fewer where there are. */
INLINE void score(Work *w, ptrdiff_t query, int Q, ptrdiff_t key, ptrdiff_t count, ptrdiff_t dim) {
    __m256 sums[QUERIES][KEYS];
    const bf16 *keys[KEYS];
    for (int k = 0; k < KEYS; k++) keys[k] = w->keys[key + k < count ? key + k : count - 1];
    UNROLLED for (int q = 0; q < Q; q++)
        for (int k = 0; k < KEYS; k++) sums[q][k] = _mm256_setzero_ps();
    for (ptrdiff_t i = 0; i < dim; i += LANES) {
        __m256 part[QUERIES];
        UNROLLED for (int q = 0; q < Q; q++) part[q] = _mm256_loadu_ps(w->query[query + q] + i);
        UNROLLED for (int k = 0; k < KEYS; k++) {
            __m256 wide = of_bf16(keys[k] + i);
            UNROLLED for (int q = 0; q < Q; q++)
                sums[q][k] = _mm256_fmadd_ps(part[q], wide, sums[q][k]);
        }
    }
    UNROLLED for (int q = 0; q < Q; q++) {
        __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(sums[q][0], sums[q][1]),
                                      _mm256_hadd_ps(sums[q][2], sums[q][3]));
        _mm_storeu_ps(w->weights[query + q] + key,
                      _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
    }
}

static void score_all(const Attention *a, Block b, ptrdiff_t count, Work *w) {
    for (ptrdiff_t q = 0; q < b.count; q += QUERIES)
        for (ptrdiff_t key = 0; key < count; key += KEYS) switch (b.count - q) {
            case 1: score(w, q, 1, key, count, a->dim); break;
            case 2: score(w, q, 2, key, count, a->dim); break;
            default: score(w, q, 3, key, count, a->dim);
            }
}

/* From scores of a query to the weights of those of the tile's keys that it sees, from `first` to
 * before `end`; others weigh nothing. */
static void weigh(Work *w, ptrdiff_t q, ptrdiff_t first, ptrdiff_t end, ptrdiff_t dim) {
    const __m256i lanes = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    __m256 seen[TILE / LANES], most = _mm256_set1_ps(w->most[q]), sum = _mm256_setzero_ps();
    for (int i = 0; i < TILE / LANES; i++) {
        __m256i at = _mm256_add_epi32(lanes, _mm256_set1_epi32(i * LANES));
        __m256i from = _mm256_cmpgt_epi32(at, _mm256_set1_epi32((int)first - 1));
        __m256i to = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), at);
        seen[i] = _mm256_castsi256_ps(_mm256_and_si256(from, to));
        __m256 found = _mm256_loadu_ps(w->weights[q] + i * LANES);
        most = _mm256_max_ps(most, _mm256_blendv_ps(_mm256_set1_ps(-FLT_MAX), found, seen[i]));
    }
    float before = w->most[q], now = greatest(most);
    for (int i = 0; i < TILE / LANES; i++) {
        float *at = w->weights[q] + i * LANES;
        __m256 less = _mm256_sub_ps(_mm256_loadu_ps(at), _mm256_set1_ps(now));
        __m256 weight = _mm256_and_ps(exponential(less), seen[i]);
        _mm256_storeu_ps(at, weight);
        sum = _mm256_add_ps(sum, weight);
    }
    __m256 shrink = exponential(_mm256_set1_ps(before - now));
    w->total[q] = w->total[q] * _mm256_cvtss_f32(shrink) + total(sum);
    w->most[q] = now;
    if (now == before) return;
    for (ptrdiff_t i = 0; i < dim; i += LANES)
        _mm256_storeu_ps(w->sums[q] + i, _mm256_mul_ps(_mm256_loadu_ps(w->sums[q] + i), shrink));
}

/* Add the weighted values of `count` keys for Q queries from `query` on, 16 numbers of a head. */
INLINE void add_values(Work *w, ptrdiff_t query, int Q, ptrdiff_t count, ptrdiff_t at) {
    __m256 sums[WEIGHED][2];
    UNROLLED for (int q = 0; q < Q; q++)
        for (int v = 0; v < 2; v++)
            sums[q][v] = _mm256_loadu_ps(w->sums[query + q] + at + v * LANES);
    for (ptrdiff_t key = 0; key < count; key++) {
        __m256 one = of_bf16(w->values[key] + at), other = of_bf16(w->values[key] + at + LANES);
        UNROLLED for (int q = 0; q < Q; q++) {
            __m256 weight = _mm256_broadcast_ss(w->weights[query + q] + key);
            sums[q][0] = _mm256_fmadd_ps(weight, one, sums[q][0]);
            sums[q][1] = _mm256_fmadd_ps(weight, other, sums[q][1]);
        }
    }
    UNROLLED for (int q = 0; q < Q; q++)
        for (int v = 0; v < 2; v++)
            _mm256_storeu_ps(w->sums[query + q] + at + v * LANES, sums[q][v]);
}

static void add_all_values(const Attention *a, Block b, ptrdiff_t count, Work *w) {
    for (ptrdiff_t q = 0; q < b.count; q += WEIGHED)
        for (ptrdiff_t at = 0; at < a->dim; at += 2 * LANES) switch (b.count - q) {
            case 1: add_values(w, q, 1, count, at); break;
            case 2: add_values(w, q, 2, count, at); break;
            case 3: add_values(w, q, 3, count, at); break;
            case 4: add_values(w, q, 4, count, at); break;
            case 5: add_values(w, q, 5, count, at); break;
            default: add_values(w, q, 6, count, at);
            }
}

static void finish(const Attention *a, Block b, const Work *w) {
    for (ptrdiff_t q = 0; q < b.count; q++) {
        ptrdiff_t each = b.first + q, row = b.piece->row + each / group_of(a);
        bf16 *to = a->y + (row * a->heads + b.kv_head * group_of(a) + each % group_of(a)) * a->dim;
        __m256 part = _mm256_set1_ps(1 / w->total[q]);
        for (ptrdiff_t i = 0; i < a->dim; i += LANES)
            to_bf16(to + i, _mm256_mul_ps(_mm256_loadu_ps(w->sums[q] + i), part));
    }
}

static void attend_block(const Attention *a, Block b, Work *w) {
    begin(a, b, w);
    ptrdiff_t end = position_of(a, b, b.count - 1) + 1;
    ptrdiff_t first = first_seen(a, position_of(a, b, 0)) / TILE * TILE;
    for (ptrdiff_t from = first; from < end; from += TILE) {
        ptrdiff_t count = end - from < TILE ? end - from : TILE;
        find(a, b, from, count, w);
        score_all(a, b, count, w);
        for (ptrdiff_t q = 0; q < b.count; q++) {
            ptrdiff_t position = position_of(a, b, q);
            weigh(w, q, first_seen(a, position) - from, position + 1 - from, a->dim);
        }
        add_all_values(a, b, count, w);
    }
    finish(a, b, w);
}

static void keep(const Attention *a, const Piece *p, ptrdiff_t row) {
    for (ptrdiff_t head = 0; head < a->kv_heads; head++) {
        ptrdiff_t at = head * p->apart + (p->position + row) * a->dim, bytes = 2 * a->dim;
        memcpy(p->keys + at, head_of(a, a->key, p->row + row, head), bytes);
        memcpy(p->values + at, head_of(a, a->value, p->row + row, head), bytes);
    }
}

static ptrdiff_t blocks_of(const Attention *a, const Piece *p) {
    return (p->rows * group_of(a) + BLOCK - 1) / BLOCK * a->kv_heads;
}

static Block block_of(const Attention *a, const Piece *p, ptrdiff_t index) {
    ptrdiff_t first = index / a->kv_heads * BLOCK, left = p->rows * group_of(a) - first;
    return (Block){p, index % a->kv_heads, first, left < BLOCK ? left : BLOCK};
}

/* Keep what is to be kept, then attend with all rows. A branch keeps nothing: it reads what the rows
 * that it stands behind have kept, and its own. */
void attend(const Attention *a, int threads) {
    ptrdiff_t blocks = 0;
    for (const Piece *p = a->pieces; p < a->pieces + a->count; p++) {
        for (ptrdiff_t row = 0; p->keeps && row < p->rows; row++) keep(a, p, row);
        blocks += blocks_of(a, p);
    }
#pragma omp parallel num_threads(threads)
    {
        Work *work = aligned_alloc(64, (sizeof(Work) + 63) / 64 * 64); /* a stack may be small */
        if (!work) abort();
#pragma omp for schedule(dynamic)
        for (ptrdiff_t index = blocks - 1; index >= 0; index--) { /* those that see most first */
            const Piece *p = a->pieces;
            ptrdiff_t in_piece = index;
            for (; in_piece >= blocks_of(a, p); p++) in_piece -= blocks_of(a, p);
            attend_block(a, block_of(a, p, in_piece), work);
        }
        free(work);
    }
}
