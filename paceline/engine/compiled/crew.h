/* Threads that do the parts of a step together.
 *
 * Whoever has time takes the next pieces of a part, and a part ends once all its pieces are done.
 * So a thread that the system gives to others holds up nobody, unless it has a piece in hand; with
 * a share for each thread every part would wait for it.
 */
#ifndef CREW_H
#define CREW_H
#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

enum { PIECES_EACH = 8, SPINS = 4096 };

typedef struct {
    _Alignas(64) atomic_ptrdiff_t taken;
    _Alignas(64) atomic_ptrdiff_t done;
} Part;

/* A thread's view of the parts of a step, which all threads go through in one order. */
typedef struct {
    Part *part;
    int threads;
} Crew;

typedef struct {
    Part *part;
    ptrdiff_t total, size, from, to, did;
} Pieces;

static inline Pieces begin(Crew *crew, ptrdiff_t total) {
    ptrdiff_t size = total / (crew->threads * PIECES_EACH);
    return (Pieces){.part = crew->part++, .total = total, .size = size ? size : 1};
}

/* Whether there are pieces left to do, from `from` to `to`; where not, all are done. */
static inline int more(Pieces *of) {
    of->did += of->to - of->from;
    of->from = atomic_fetch_add(&of->part->taken, of->size);
    if (of->from < of->total) {
        of->to = of->from + of->size < of->total ? of->from + of->size : of->total;
        return 1;
    }
    atomic_fetch_add(&of->part->done, of->did);
    for (int spins = 0; atomic_load(&of->part->done) < of->total; spins++)
        if (spins < SPINS) _mm_pause();
        else sched_yield();
    return 0;
}

/* Run what follows for each i of `total`, on any thread. */
#define EACH(i, total)                                                                             \
    for (Pieces pieces = begin(crew, total); more(&pieces);)                                       \
        for (ptrdiff_t i = pieces.from; i < pieces.to; i++)
#endif
