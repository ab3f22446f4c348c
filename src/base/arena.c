/* arena.c: bump allocation in a list of blocks; each block is twice as large as the one before, up
 * to ARENA_BLOCK_BYTES_MAX, so that a request costs a handful of system calls at most. The first is
 * of a size that the allocator keeps at hand: most requests need no other. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

enum { ARENA_ALIGN = 16, ARENA_BLOCK_BYTES_MIN = 960, ARENA_BLOCK_BYTES_MAX = 1 << 20 };

struct arena_block {
    struct arena_block *next;
    size_t size_bytes; /* of data[] */
    size_t used_bytes;
    size_t pad;
    ALIGNED(16) char data[];
};

_Static_assert(offsetof(struct arena_block, data) % ARENA_ALIGN == 0, "block data is aligned");

void arena_init(struct arena *a, size_t cap_bytes)
{
    *a = (struct arena){.cap_bytes = cap_bytes};
}

static void arena_free_from(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
}

void arena_deinit(struct arena *a)
{
    arena_free_from(a->head);
    *a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
    if (a->head == NULL) {
        return;
    }
    arena_free_from(a->head->next);
    a->head->next = NULL;
    a->head->used_bytes = 0;
    a->used_bytes = 0;
}

static bool arena_grow(struct arena *a, size_t bytes)
{
    size_t size = a->head == NULL ? ARENA_BLOCK_BYTES_MIN : a->head->size_bytes * 2;
    size = MAX(MIN(size, (size_t)ARENA_BLOCK_BYTES_MAX), bytes);
    struct arena_block *block = mem_try_alloc(sizeof(*block) + size);
    if (block == NULL) {
        return false;
    }
    block->size_bytes = size;
    block->used_bytes = 0;
    block->next = a->head;
    a->head = block;
    return true;
}

void *arena_take(struct arena *a, size_t bytes)
{
    uint64_t need;
    if (!checked_align_up(bytes == 0 ? 1 : bytes, ARENA_ALIGN, &need) || need > a->cap_bytes ||
        a->used_bytes > a->cap_bytes - need) {
        return NULL;
    }
    struct arena_block *block = a->head;
    if (block == NULL || block->size_bytes - block->used_bytes < need) {
        if (!arena_grow(a, need)) {
            return NULL;
        }
        block = a->head;
    }
    char *ptr = block->data + block->used_bytes;
    block->used_bytes += need;
    a->used_bytes += need;
    ASSERT_SLOW(block->used_bytes <= block->size_bytes);
    return ptr;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    void *ptr = arena_take(a, bytes);
    return ptr != NULL ? memset(ptr, 0, bytes) : NULL;
}

void *arena_alloc_array(struct arena *a, size_t n, size_t size)
{
    size_t bytes;
    return checked_mul(n, size, &bytes) ? arena_alloc(a, bytes) : NULL;
}

struct str arena_str(struct arena *a, struct str s)
{
    size_t bytes;
    char *ptr = checked_add(s.len, 1u, &bytes) ? arena_take(a, bytes) : NULL;
    if (ptr == NULL) {
        return STR_NULL;
    }
    if (s.len > 0) {
        memcpy(ptr, s.ptr, s.len);
    }
    ptr[s.len] = '\0';
    return str_make(ptr, s.len);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *ptr = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (ptr == NULL) {
        return STR_NULL;
    }
    va_start(ap, fmt);
    vsnprintf(ptr, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return str_make(ptr, (size_t)n);
}
