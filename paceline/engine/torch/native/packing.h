/* Weights [n, k] into the layout of layout.h. */
#ifndef PACKING_H
#define PACKING_H
#include "layout.h"

/* Numbers of a pair of inputs, in the order in which they are multiplied: [WIDTH][2]. */
static void gather(bf16 *numbers, const bf16 *dense, const Weight *weight, ptrdiff_t block,
                   ptrdiff_t input) {
    for (int output = 0; output < WIDTH; output++)
        memcpy(numbers + 2 * output, dense + (block * WIDTH + output) * weight->inputs + input, 4);
}

/* A part's CODES most frequent upper bytes. */
static void find_table(const bf16 *dense, const Weight *weight, ptrdiff_t block, Part of) {
    int counts[256] = {0};
    for (ptrdiff_t pair = 0; pair < of.pairs; pair++) {
        bf16 numbers[NUMBERS];
        gather(numbers, dense, weight, block, of.from + 2 * pair);
        for (int i = 0; i < NUMBERS; i++) counts[numbers[i] >> 8]++;
    }
    for (int code = 0; code < CODES; code++) {
        int best = 0;
        for (int upper = 1; upper < 256; upper++)
            if (counts[upper] > counts[best]) best = upper;
        of.table[code] = (uint8_t)best;
        counts[best] = -1;
    }
}

/* The code of each upper byte by a table; CODES where it has none. */
static void codes_by(const uint8_t *table, uint8_t *codes) {
    memset(codes, CODES, 256);
    for (int code = 0; code < CODES; code++) codes[table[code]] = (uint8_t)code;
}

static int is_rare(const bf16 *numbers, const uint8_t *codes) {
    int found = 0;
    for (int i = 0; i < NUMBERS; i++) found |= codes[numbers[i] >> 8];
    return found >= CODES;
}

static int64_t count_rare(const bf16 *dense, const Weight *weight, ptrdiff_t block, Part of) {
    uint8_t codes[256];
    codes_by(of.table, codes);
    int64_t found = 0;
    for (ptrdiff_t pair = 0; pair < of.pairs; pair++) {
        bf16 numbers[NUMBERS];
        gather(numbers, dense, weight, block, of.from + 2 * pair);
        found += is_rare(numbers, codes);
    }
    return found;
}

static void pack_pair(const bf16 *numbers, const uint8_t *codes, Part of, ptrdiff_t pair) {
    for (int half = 0; half < 2; half++) {
        uint8_t *low = of.bytes + half * HALF * of.pairs + pair * LOW;
        uint8_t *code = of.bytes + (half * HALF + LOW) * of.pairs + pair * (HALF - LOW);
        memset(code, 0, HALF - LOW);
        for (int i = 0; i < LOW; i++) {
            bf16 number = numbers[half * LOW + i % 16 / 8 * 32 + i / 16 * 8 + i % 8];
            low[i] = (uint8_t)number;
            code[i % 32] |= (uint8_t)((codes[number >> 8] & 15) << (i / 32 * 4));
        }
    }
}

static void pack_part(const bf16 *dense, const Weight *weight, ptrdiff_t block, Part to) {
    uint8_t codes[256];
    codes_by(to.table, codes);
    for (ptrdiff_t pair = 0; pair < to.pairs; pair++) {
        bf16 numbers[NUMBERS];
        gather(numbers, dense, weight, block, to.from + 2 * pair);
        pack_pair(numbers, codes, to, pair);
        if (!is_rare(numbers, codes)) continue;
        *to.rare++ = (uint16_t)pair;
        memcpy(to.whole, numbers, sizeof numbers);
        to.whole += NUMBERS;
    }
    *to.rare = (uint16_t)to.pairs;
}
/* Fill the tables of `weight` for dense [n, k], and say how many pairs are rare in each part. */
void find_tables(const bf16 *dense, Weight *weight, int64_t *rare, int threads) {
#pragma omp parallel for num_threads(threads)
    for (ptrdiff_t block = 0; block < weight->outputs / WIDTH; block++)
        for (ptrdiff_t chunk = 0; chunk < chunks(weight); chunk++) {
            Part of = part(weight, block, chunk);
            find_table(dense, weight, block, of);
            rare[block * chunks(weight) + chunk] = count_rare(dense, weight, block, of);
        }
}

/* Fill all else; the tables and starts are known. */
void pack(const bf16 *dense, Weight *weight, int threads) {
#pragma omp parallel for num_threads(threads)
    for (ptrdiff_t block = 0; block < weight->outputs / WIDTH; block++)
        for (ptrdiff_t chunk = 0; chunk < chunks(weight); chunk++)
            pack_part(dense, weight, block, part(weight, block, chunk));
}
#endif
