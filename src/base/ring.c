/* ring.c: Lamport's queue with C11 atomics. The release store of an index publishes the slot that
 * was written before it; the other side's acquire load makes that write visible. */
#include "base/ring.h"

#include "base/assert.h"
#include "base/mem.h"

void ring_init(struct ring *r, uint32_t n_max)
{
    ASSERT(n_max > 0 && n_max <= (1u << 30));
    uint32_t size = 1;
    while (size < n_max) {
        size *= 2;
    }
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
    r->mask = size - 1;
    r->slots = mem_zalloc_array(size, sizeof(void *));
}

void ring_deinit(struct ring *r)
{
    mem_free(r->slots);
    r->slots = NULL;
}

bool ring_push(struct ring *r, void *item)
{
    ASSERT(item != NULL);
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (tail - head > r->mask) {
        return false;
    }
    r->slots[tail & r->mask] = item;
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}

void *ring_pop(struct ring *r)
{
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    if (head == tail) {
        return NULL;
    }
    void *item = r->slots[head & r->mask];
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return item;
}
