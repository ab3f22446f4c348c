/* map.h: hash map from byte strings to pointers; open addressing, linear probing, at most 3/4 full.
 *
 * Keys are borrowed: their bytes must stay in place until the key is removed (the usual key is a
 * field of the value itself). Values are the caller's. The hash is seeded, so that keys from
 * outside cannot be chosen to collide. Not thread-safe: one owner. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/str.h"

struct map_slot;

struct map {
    /* private */
    struct map_slot *slots; /* NULL while empty */
    uint64_t seed;
    uint32_t n, n_slots; /* n_slots is a power of two or 0 */
};

/* `seed` from crypto_random where keys come from outside; any number in tests. Nothing is
 * allocated yet. */
void map_init(struct map *m, uint64_t seed);
/* May be called twice and on a zeroed struct. */
void map_deinit(struct map *m);
/* Makes room for n keys at once. False when out of memory. */
MUST_CHECK bool map_reserve(struct map *m, uint32_t n);

/* NULL when absent. O(1). */
void *map_get(const struct map *m, struct str key);
/* Inserts or replaces; `value` is not NULL. *old (may be NULL) becomes the replaced value or NULL;
 * a replaced key's bytes are let go of. False when out of memory: nothing changed. */
MUST_CHECK bool map_put(struct map *m, struct str key, void *value, void **old);
/* Returns the value that was there, or NULL. */
void *map_remove(struct map *m, struct str key);
/* Forgets all keys; keeps the memory. */
void map_clear(struct map *m);

static inline uint32_t map_count(const struct map *m)
{
    return m->n;
}

/* Walks all entries in no order: start with *at = 0; false at the end. The map must not change on
 * the way. `key` may be NULL. */
bool map_next(const struct map *m, uint32_t *at, struct str *key, void **value);

#endif
