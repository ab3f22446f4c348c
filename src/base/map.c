/* map.c: see map.h. Removal shifts the entries behind the hole back instead of leaving a mark, so
 * that a map with much coming and going never fills with marks. */
#include "base/map.h"

#include <xxhash.h>

#include "base/assert.h"
#include "base/mem.h"

enum { MAP_SLOTS_MIN = 16, MAP_SLOTS_MAX = 1 << 30 };

struct map_slot {
    struct str key;
    uint64_t hash;
    void *value; /* NULL = free */
};

void map_init(struct map *m, uint64_t seed)
{
    *m = (struct map){.seed = seed};
}

void map_deinit(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){.seed = m->seed};
}

static uint64_t map_hash(const struct map *m, struct str key)
{
    return XXH3_64bits_withSeed(key.ptr, key.len, m->seed);
}

/* The slot of `key`, or the free one where it belongs. There is always a free one. */
static struct map_slot *map_find(const struct map *m, struct str key, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (m->n_slots - 1);
    while (m->slots[i].value != NULL &&
           (m->slots[i].hash != hash || !str_eq(m->slots[i].key, key))) {
        i = (i + 1) & (m->n_slots - 1);
    }
    return &m->slots[i];
}

static bool map_resize(struct map *m, uint32_t n_slots)
{
    struct map bigger = {.seed = m->seed, .n = m->n, .n_slots = n_slots};
    bigger.slots = mem_try_zalloc_array(n_slots, sizeof(*bigger.slots));
    if (bigger.slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_slots; i++) {
        if (m->slots[i].value != NULL) {
            *map_find(&bigger, m->slots[i].key, m->slots[i].hash) = m->slots[i];
        }
    }
    mem_free(m->slots);
    *m = bigger;
    return true;
}

bool map_reserve(struct map *m, uint32_t n)
{
    uint32_t n_slots = MAX(m->n_slots, (uint32_t)MAP_SLOTS_MIN);
    while (n_slots / 4 * 3 < n) {
        if (n_slots >= MAP_SLOTS_MAX) {
            return false;
        }
        n_slots *= 2;
    }
    return n_slots == m->n_slots || map_resize(m, n_slots);
}

void *map_get(const struct map *m, struct str key)
{
    return m->n == 0 ? NULL : map_find(m, key, map_hash(m, key))->value;
}

bool map_put(struct map *m, struct str key, void *value, void **old)
{
    ASSERT(value != NULL);
    if (!map_reserve(m, m->n + 1)) {
        return false;
    }
    uint64_t hash = map_hash(m, key);
    struct map_slot *slot = map_find(m, key, hash);
    if (old != NULL) {
        *old = slot->value;
    }
    m->n += slot->value == NULL ? 1 : 0;
    *slot = (struct map_slot){.key = key, .hash = hash, .value = value};
    ASSERT_SLOW(m->n < m->n_slots);
    return true;
}

void *map_remove(struct map *m, struct str key)
{
    struct map_slot *slot = m->n == 0 ? NULL : map_find(m, key, map_hash(m, key));
    if (slot == NULL || slot->value == NULL) {
        return NULL;
    }
    void *value = slot->value;
    uint32_t mask = m->n_slots - 1, hole = (uint32_t)(slot - m->slots);
    for (uint32_t i = (hole + 1) & mask; m->slots[i].value != NULL; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)m->slots[i].hash & mask;
        if (((i - home) & mask) >=
            ((i - hole) & mask)) { /* its way from home leads over the hole */
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct map_slot){0};
    m->n--;
    return value;
}

void map_clear(struct map *m)
{
    if (m->slots != NULL) {
        memset(m->slots, 0, m->n_slots * sizeof(*m->slots));
    }
    m->n = 0;
}

bool map_next(const struct map *m, uint32_t *at, struct str *key, void **value)
{
    while (*at < m->n_slots) {
        const struct map_slot *slot = &m->slots[(*at)++];
        if (slot->value != NULL) {
            if (key != NULL) {
                *key = slot->key;
            }
            *value = slot->value;
            return true;
        }
    }
    return false;
}
