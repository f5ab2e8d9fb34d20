/* One step of a draft: a Llama-family decoder with weights in 4 bits, over rows of many sessions.
 */
#include <math.h>
#include <omp.h>
#include "attention.h"
#include "crew.h"

typedef struct {
    const float *input_norm, *query_norm, *key_norm, *mlp_norm;
    Linear qkv, out, gate_up, down;
    ptrdiff_t window; /* of sliding attention; 0: none */
} Layer;

typedef struct {
    ptrdiff_t width, heads, kv_heads, head_dim, mlp_width, layers;
    float epsilon, rope_scaling;
    const bf16 *embeddings;
    const float *norm, *inverse_frequencies;
    Linear head;
    const Layer *layer;
} Model;

typedef struct {
    ptrdiff_t rows, wanted, most_pages;
    const int32_t *tokens, *positions, *sessions, *wanted_rows,
        *pages; /* pages: [sessions, most_pages] */
    bf16 *kv;
    char *workspace;
    float *logits; /* [wanted, outputs of the head] */
} Batch;

typedef struct {
    float *x, *qkv, *cos, *sin;
    Part *parts;
    Rows narrow, wide; /* of the model's width or its heads; of the MLP */
} Work;

static ptrdiff_t heads_width(const Model *m) { return m->heads * m->head_dim; }
static ptrdiff_t narrow_width(const Model *m) {
    return heads_width(m) > m->width ? heads_width(m) : m->width;
}

/* Of a step: eight of each layer, the embeddings, the last norm and the head. */
static ptrdiff_t parts_of(const Model *m) { return 8 * m->layers + 3; }

static char *take(char **from, ptrdiff_t bytes) {
    char *taken = *from;
    *from += (bytes + 63) / 64 * 64;
    return taken;
}

static Rows take_rows(char **from, ptrdiff_t rows, ptrdiff_t width) {
    ptrdiff_t whole = (rows + TILE - 1) / TILE * TILE, groups = whole * (width / GROUP);
    int8_t *codes = (int8_t *)take(from, whole * width);
    float *scales = (float *)take(from, groups * 4);
    return (Rows){codes, scales, (float *)take(from, groups * 4), width};
}

static Work lay_out(const Model *m, ptrdiff_t rows, char **from) {
    Work work;
    work.parts = (Part *)take(from, parts_of(m) * (ptrdiff_t)sizeof(Part));
    work.x = (float *)take(from, rows * m->width * 4);
    work.qkv = (float *)take(from, rows * m->layer->qkv.outputs * 4);
    work.cos = (float *)take(from, rows * m->head_dim * 2);
    work.sin = (float *)take(from, rows * m->head_dim * 2);
    work.narrow = take_rows(from, rows, narrow_width(m));
    work.wide = take_rows(from, rows, m->mlp_width);
    return work;
}

ptrdiff_t workspace_bytes(const Model *m, ptrdiff_t rows) {
    char *end = 0;
    lay_out(m, rows, &end);
    return end - (char *)0;
}

static float inverse_root(const float *x, ptrdiff_t width, float epsilon) {
    Vector squares = zeros();
    for (ptrdiff_t i = 0; i < width; i += 16) {
        Vector part = load(x + i);
        squares = times_plus(part, part, squares);
    }
    return 1 / sqrtf(sum_of(squares) / (float)width + epsilon);
}

/* RMSNorm (Zhang and Sennrich 2019) of a row, in 8 bits. */
static void normed(const float *x, const float *weight, float epsilon, Rows to, ptrdiff_t row) {
    Vector root = same(inverse_root(x, to.width, epsilon));
    for (ptrdiff_t i = 0; i < to.width; i += GROUP) {
        Vector first = times(times(load(x + i), root), load(weight + i));
        Vector second = times(times(load(x + i + 16), root), load(weight + i + 16));
        quantize(first, second, to, row, i / GROUP);
    }
}

static void norm_head(float *x, const float *weight, ptrdiff_t head_dim, float epsilon) {
    if (!weight) return;
    float root = inverse_root(x, head_dim, epsilon);
    for (ptrdiff_t i = 0; i < head_dim; i++) x[i] *= root * weight[i];
}

/* Rotary position embedding (Su et al. 2021). */
static void rotate(float *x, const float *cosines, const float *sines, ptrdiff_t head_dim) {
    for (ptrdiff_t i = 0; i < head_dim / 2; i++) {
        float first = x[i], second = x[i + head_dim / 2];
        x[i] = first * cosines[i] - second * sines[i];
        x[i + head_dim / 2] = second * cosines[i] + first * sines[i];
    }
}

static void embed(const Model *m, const Batch *b, Work w, ptrdiff_t row) {
    const bf16 *from = m->embeddings + b->tokens[row] * m->width;
    for (ptrdiff_t i = 0; i < m->width; i += 16)
        store(w.x + row * m->width + i, of_bf16(from + i));
    ptrdiff_t half = m->head_dim / 2;
    for (ptrdiff_t i = 0; i < half; i++) {
        float angle = (float)b->positions[row] * m->inverse_frequencies[i];
        w.cos[row * half + i] = cosf(angle) * m->rope_scaling;
        w.sin[row * half + i] = sinf(angle) * m->rope_scaling;
    }
}

/* Keys of a row's layer and KV head in the page of a token; its values lie behind them. */
static bf16 *page_of(const Model *m, const Batch *b, ptrdiff_t row, ptrdiff_t token,
                     ptrdiff_t layer, ptrdiff_t head) {
    ptrdiff_t page = b->pages[b->sessions[row] * b->most_pages + token / PAGE];
    return b->kv + ((page * m->layers + layer) * m->kv_heads + head) * 2 * PAGE * m->head_dim;
}

static void rotate_and_keep(const Model *m, const Batch *b, Work w, ptrdiff_t layer,
                            ptrdiff_t row) {
    const Layer *l = m->layer + layer;
    ptrdiff_t dim = m->head_dim, token = b->positions[row];
    float *query = w.qkv + row * l->qkv.outputs, *key = query + heads_width(m),
          *value = key + m->kv_heads * dim;
    const float *cosines = w.cos + row * dim / 2, *sines = w.sin + row * dim / 2;
    for (ptrdiff_t head = 0; head < m->heads; head++) {
        norm_head(query + head * dim, l->query_norm, dim, m->epsilon);
        rotate(query + head * dim, cosines, sines, dim);
    }
    for (ptrdiff_t head = 0; head < m->kv_heads; head++) {
        norm_head(key + head * dim, l->key_norm, dim, m->epsilon);
        rotate(key + head * dim, cosines, sines, dim);
        bf16 *page = page_of(m, b, row, token, layer, head);
        write_key(page, token % PAGE, key + head * dim, dim);
        write_value(page + PAGE * dim, token % PAGE, value + head * dim, dim);
    }
}

INLINE void attend_with(const Model *m, const Batch *b, Work w, ptrdiff_t layer, ptrdiff_t row,
                        ptrdiff_t head, ptrdiff_t dim) {
    const Layer *l = m->layer + layer;
    ptrdiff_t end = b->positions[row] + 1, kv_head = head / (m->heads / m->kv_heads);
    ptrdiff_t first = l->window && end > l->window ? end - l->window : 0;
    Pair query[MOST_HEAD / 2];
    const float *from = w.qkv + row * l->qkv.outputs + head * dim;
    Vector scale = same(1 / sqrtf((float)dim));
    for (ptrdiff_t i = 0; i < dim; i += 16) store_pairs(query + i / 2, times(load(from + i), scale));
    Attended found = {.most = -FLT_MAX};
    for (ptrdiff_t token = first; token < end; token = token / PAGE * PAGE + PAGE) {
        const bf16 *page = page_of(m, b, row, token, layer, kv_head);
        ptrdiff_t stop = end - token / PAGE * PAGE < PAGE ? end - token / PAGE * PAGE : PAGE;
        attend_page(&found, page, page + PAGE * dim, query, token % PAGE, stop, dim);
    }
    Rows to = of_width(w.narrow, heads_width(m));
    Vector part = same(1 / found.total);
    for (ptrdiff_t i = 0; i < dim; i += GROUP)
        quantize(times(load(found.sums + i), part), times(load(found.sums + i + 16), part), to, row,
                 (head * dim + i) / GROUP);
}

static void attend(const Model *m, const Batch *b, Work w, ptrdiff_t layer, ptrdiff_t row,
                   ptrdiff_t head) {
    switch (m->head_dim) {
    case 64: attend_with(m, b, w, layer, row, head, 64); break;
    case 128: attend_with(m, b, w, layer, row, head, 128); break;
    default: attend_with(m, b, w, layer, row, head, m->head_dim);
    }
}

/* y [rows, outputs] of a block; added to it or not. */
INLINE void block_of(const Linear *l, ptrdiff_t block, Rows rows, ptrdiff_t count, float *y,
                     int adds) {
    float part[TILE][WIDTH];
    for (ptrdiff_t row = 0; row < count;) {
        ptrdiff_t done = product(l, block, rows, row, count - row, part);
        for (ptrdiff_t r = 0; r < done; r++, row++)
            for (int v = 0; v < WIDTH; v += 16) {
                float *to = y + row * l->outputs + block * WIDTH + v;
                Vector found = load(part[r] + v);
                store(to, adds ? plus(load(to), found) : found);
            }
    }
}

/* silu(gate) * up of a block, in 8 bits. */
static void gated(const Linear *l, ptrdiff_t block, Rows rows, ptrdiff_t count, Rows to) {
    float gate[TILE][WIDTH], up[TILE][WIDTH];
    for (ptrdiff_t row = 0; row < count;) {
        product(l, block, rows, row, count - row, gate);
        ptrdiff_t done = product(l, block + to.width / WIDTH, rows, row, count - row, up);
        for (ptrdiff_t r = 0; r < done; r++, row++) {
            Vector found[VECTORS];
            for (int v = 0; v < VECTORS; v++)
                found[v] = times(silu(load(gate[r] + 16 * v)), load(up[r] + 16 * v));
            for (int half = 0; half < 2; half++)
                quantize(found[2 * half], found[2 * half + 1], to, row, block * 2 + half);
        }
    }
}

static void run_layer(const Model *m, const Batch *b, Work w, ptrdiff_t layer, Crew *crew) {
    const Layer *l = m->layer + layer;
    Rows model_rows = of_width(w.narrow, m->width);
    Rows head_rows = of_width(w.narrow, heads_width(m));
    EACH (row, b->rows) normed(w.x + row * m->width, l->input_norm, m->epsilon, model_rows, row);
    EACH (block, l->qkv.outputs / WIDTH) block_of(&l->qkv, block, model_rows, b->rows, w.qkv, 0);
    EACH (row, b->rows) rotate_and_keep(m, b, w, layer, row);
    EACH (each, b->rows * m->heads) attend(m, b, w, layer, each / m->heads, each % m->heads);
    EACH (block, l->out.outputs / WIDTH) block_of(&l->out, block, head_rows, b->rows, w.x, 1);
    EACH (row, b->rows) normed(w.x + row * m->width, l->mlp_norm, m->epsilon, model_rows, row);
    EACH (block, m->mlp_width / WIDTH) gated(&l->gate_up, block, model_rows, b->rows, w.wide);
    EACH (block, l->down.outputs / WIDTH) block_of(&l->down, block, w.wide, b->rows, w.x, 1);
}

void step(const Model *m, const Batch *b, int most_threads) {
    char *from = b->workspace;
    Work w = lay_out(m, b->rows, &from);
    memset(w.parts, 0, (size_t)parts_of(m) * sizeof(Part));
#pragma omp parallel num_threads(most_threads)
    {
        Crew own = {w.parts, omp_get_num_threads()}, *crew = &own;
        EACH (row, b->rows) embed(m, b, w, row);
        for (ptrdiff_t layer = 0; layer < m->layers; layer++) run_layer(m, b, w, layer, crew);
        Rows rows = of_width(w.narrow, m->width);
        EACH (row, b->wanted)
            normed(w.x + b->wanted_rows[row] * m->width, m->norm, m->epsilon, rows, row);
        EACH (block, m->head.outputs / WIDTH)
            block_of(&m->head, block, rows, b->wanted, b->logits, 0);
    }
}
