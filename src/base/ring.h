/* ring.h: bounded queue of pointers between exactly one producer and one consumer thread
 * (STYLE.md F31). Wait-free on both sides; the consumer's wake-up (an eventfd, uv_async_t, …) is
 * the producer's to give after ring_push. */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stdatomic.h>

#include "base/compiler.h"

struct ring {
    /* private */
    ALIGNED(CACHE_LINE_BYTES) _Atomic uint32_t head; /* next slot to read: the consumer's */
    ALIGNED(CACHE_LINE_BYTES) _Atomic uint32_t tail; /* next slot to write: the producer's */
    ALIGNED(CACHE_LINE_BYTES) void **slots;
    uint32_t mask;
};

/* n_max is rounded up to a power of two. */
void ring_init(struct ring *r, uint32_t n_max);
void ring_deinit(struct ring *r);
/* Producer only. False when full: the caller does the work itself or refuses. */
MUST_CHECK bool ring_push(struct ring *r, void *item);
/* Consumer only. NULL when empty. */
void *ring_pop(struct ring *r);

#endif
