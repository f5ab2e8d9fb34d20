/* A weight in bf16, kept in 12 bits a number without loss.
 *
 * A bf16 has a sign, 8 bits of exponent and 7 of mantissa. Of trained weights the upper byte, sign
 * and most of the exponent, has few values. So the lower byte is kept as it is, and of the upper
 * one a code of 4 bits: its place among the 16 most frequent of its part. Pairs of inputs with
 * another upper byte anywhere, one in a hundred, are kept whole beside.
 *
 * A part is `chunk` inputs of 64 outputs. Its numbers lie by pairs of inputs, as the CPU multiplies
 * them: first of its outputs 0 to 31, lower bytes [pairs][64] and codes [pairs][32], then of 32 to
 * 63. A part's outputs are four vectors of 16; two lie together in 64 lower bytes, 8 numbers of one
 * and 8 of the other in turn, which is how vpunpck joins them with their upper bytes.
 */
#ifndef LAYOUT_H
#define LAYOUT_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

enum {
    WIDTH = 64,
    VECTORS = WIDTH / 16,
    NUMBERS = 2 * WIDTH, /* of a pair of inputs */
    CODES = 16,
    HALF = 96, /* bytes of a pair of inputs for half of the outputs */
    LOW = 64   /* of them lower bytes */
};

typedef struct {
    uint8_t *bytes;  /* of all parts, block by block of outputs: [n / 64][k / 2][2 * HALF] */
    uint8_t *tables; /* [parts][CODES], upper bytes */
    int64_t *starts; /* [parts], where its rare pairs begin in `whole` */
    uint16_t *rare;  /* from starts[part] + part on: rare pairs in order, then the count of pairs */
    bf16 *whole;     /* [rare pairs][NUMBERS] */
    ptrdiff_t outputs, inputs, chunk;
} Weight;

typedef struct {
    uint8_t *bytes, *table;
    uint16_t *rare;
    bf16 *whole;
    ptrdiff_t from, pairs; /* the first input, and how many pairs */
} Part;

static inline ptrdiff_t chunks(const Weight *weight) {
    return (weight->inputs + weight->chunk - 1) / weight->chunk;
}

static inline Part part(const Weight *weight, ptrdiff_t block, ptrdiff_t chunk) {
    ptrdiff_t index = block * chunks(weight) + chunk, from = chunk * weight->chunk;
    ptrdiff_t left = weight->inputs - from;
    return (Part){
        .bytes = weight->bytes + (block * weight->inputs + from) * HALF,
        .table = weight->tables + index * CODES,
        .rare = weight->rare + weight->starts[index] + index,
        .whole = weight->whole + weight->starts[index] * NUMBERS,
        .from = from,
        .pairs = (left < weight->chunk ? left : weight->chunk) / 2,
    };
}
#endif
