/* buf.c: see buf.h. Grows by doubling, so that n writes cost O(bytes). */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"

enum { BUF_BYTES_MIN = 64 };

void buf_init(struct buf *b, size_t cap_bytes)
{
    *b = (struct buf){.cap_bytes = cap_bytes};
}

void buf_deinit(struct buf *b)
{
    if (b->ptr != NULL) { /* most buffers of a request stay empty */
        mem_free(b->ptr);
    }
    *b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t need; /* with the NUL */
    if (b->failed || !checked_add(b->len, n, &need) || need > b->cap_bytes) {
        b->failed = true;
        return NULL;
    }
    need++;
    if (need > b->size_bytes) {
        size_t size = MAX(need, MAX(b->size_bytes * 2, (size_t)BUF_BYTES_MIN));
        size = MAX(MIN(size, b->cap_bytes), need);
        char *moved = mem_try_realloc(b->ptr, size);
        if (moved == NULL) {
            b->failed = true;
            return NULL;
        }
        b->ptr = moved;
        b->size_bytes = size;
    }
    return b->ptr + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
    ASSERT(b->size_bytes > b->len && n <= b->size_bytes - b->len - 1);
    b->len += n;
    b->ptr[b->len] = '\0';
}

void buf_add_slow(struct buf *b, const void *bytes, size_t n)
{
    char *dst = buf_reserve(b, n);
    if (dst == NULL) {
        return;
    }
    if (n > 0) {
        memcpy(dst, bytes, n);
    }
    buf_commit(b, n);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    char text[STR_U64_BYTES];
    buf_add(b, text, str_put_u64(text, v));
}

void buf_add_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    char text[256]; /* most texts are short: formatted once */
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(text)) {
        buf_add(b, text, (size_t)n);
        return;
    }
    char *dst = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (dst == NULL) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(dst, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf_commit(b, (size_t)n);
}

void buf_drop_front(struct buf *b, size_t n)
{
    ASSERT(n <= b->len);
    if (n == 0) {
        return;
    }
    memmove(b->ptr, b->ptr + n, b->len - n + 1);
    b->len -= n;
}

void buf_truncate(struct buf *b, size_t n)
{
    ASSERT(n <= b->len);
    if (b->ptr != NULL) {
        b->len = n;
        b->ptr[n] = '\0';
    }
}
