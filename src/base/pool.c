/* pool.c: one block of objects and a free list threaded through the unused ones.
 *
 *   objects  [ used ][ free ]->[ used ][ free ]->NULL
 *                ^ free_head
 *
 * Invariants: n_used + length of the free list = n_max; every pointer on the free list lies inside
 * the block on an object border. A free object's bytes behind its link are poisoned under ASan, so
 * that a use after pool_put is caught where it happens. */
#include "base/pool.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POOL_POISON(ptr, n)   ASAN_POISON_MEMORY_REGION(ptr, n)
#define POOL_UNPOISON(ptr, n) ASAN_UNPOISON_MEMORY_REGION(ptr, n)
#else
#define POOL_POISON(ptr, n)   ((void)(ptr), (void)(n))
#define POOL_UNPOISON(ptr, n) ((void)(ptr), (void)(n))
#endif

static void pool_push_free(struct pool *p, void *object)
{
    memcpy(object, &p->free_head, sizeof(void *));
    p->free_head = object;
    POOL_POISON((char *)object + sizeof(void *), p->object_bytes - sizeof(void *));
}

void pool_init(struct pool *p, size_t object_bytes, uint32_t n_max)
{
    ASSERT(object_bytes > 0 && n_max > 0);
    size_t rounded = (MAX(object_bytes, sizeof(void *)) + 15u) & ~(size_t)15u;
    *p = (struct pool){.object_bytes = rounded, .n_max = n_max};
    p->objects = mem_zalloc_array(n_max, rounded);
    for (uint32_t i = n_max; i > 0; i--) {
        pool_push_free(p, p->objects + (size_t)(i - 1) * rounded);
    }
}

void pool_deinit(struct pool *p)
{
    ASSERT(p->n_used == 0);
    POOL_UNPOISON(p->objects, p->object_bytes * p->n_max);
    mem_free(p->objects);
    *p = (struct pool){0};
}

void *pool_get(struct pool *p)
{
    void *object = p->free_head;
    if (object == NULL) {
        return NULL;
    }
    POOL_UNPOISON(object, p->object_bytes);
    memcpy(&p->free_head, object, sizeof(void *));
    p->n_used++;
    ASSERT(p->n_used <= p->n_max);
    return memset(object, 0, p->object_bytes);
}

void pool_put(struct pool *p, void *object)
{
    size_t offset = (size_t)((char *)object - p->objects);
    ASSERT(offset < p->object_bytes * p->n_max);
    ASSERT(offset % p->object_bytes == 0);
    ASSERT(p->n_used > 0);
    p->n_used--;
    pool_push_free(p, object);
}
