/* pool.h: fixed-size objects with a cap, allocated at start (STYLE.md D19).
 *
 * pool_get never touches the system's allocator: at the cap it returns NULL, and the caller sheds
 * or waits. Not thread-safe: one owner. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/compiler.h"

struct pool {
    /* private */
    char *objects;
    void *free_head; /* the first word of a free object points to the next free one */
    size_t object_bytes;
    uint32_t n_max, n_used;
};

/* Allocates all n_max objects at once. Boot only: out of memory ends the process. */
void pool_init(struct pool *p, size_t object_bytes, uint32_t n_max);
/* Every object must have been put back. May be called twice. */
void pool_deinit(struct pool *p);
/* A zeroed object, or NULL at the cap. */
MUST_CHECK void *pool_get(struct pool *p);
/* `object` came from this pool and is not used afterwards. */
void pool_put(struct pool *p, void *object);

static inline uint32_t pool_used(const struct pool *p)
{
    return p->n_used;
}
static inline uint32_t pool_left(const struct pool *p)
{
    return p->n_max - p->n_used;
}

#endif
