/* arena.h: memory of one request or one step, given back all at once (STYLE.md D19).
 *
 * A list of growing blocks under one cap. Running into the cap, or out of memory, gives NULL:
 * the request fails with RC_TOO_LARGE, the process lives. Not thread-safe: one owner. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/str.h"

struct arena_block;

struct arena {
    /* private */
    struct arena_block *head; /* newest first */
    size_t used_bytes;        /* of all blocks */
    size_t cap_bytes;
};

/* Nothing is allocated yet. */
void arena_init(struct arena *a, size_t cap_bytes);
/* May be called twice and on a zeroed struct. */
void arena_deinit(struct arena *a);
/* Forgets everything; keeps the newest block for reuse. */
void arena_reset(struct arena *a);

/* 16-byte aligned and zeroed, or NULL. */
MUST_CHECK void *arena_alloc(struct arena *a, size_t bytes);
/* The same with the bytes as they happen to be. */
MUST_CHECK void *arena_take(struct arena *a, size_t bytes);
MUST_CHECK void *arena_alloc_array(struct arena *a, size_t n, size_t size);

/* A copy with a NUL behind it; ptr is NULL when there is no room. */
MUST_CHECK struct str arena_str(struct arena *a, struct str s);
MUST_CHECK struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
