/* buf.h: a growing byte buffer under a cap (STYLE.md D19).
 *
 * Failure is sticky: once the cap or the memory is hit, further writes do nothing and buf_ok says
 * false, so that a writer checks once at its end. The bytes are always followed by a NUL. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/str.h"

struct buf {
    char *ptr; /* owned; NULL while empty */
    size_t len;
    /* private */
    size_t size_bytes;
    size_t cap_bytes;
    bool failed;
};

void buf_init(struct buf *b, size_t cap_bytes);
/* May be called twice and on a zeroed struct. */
void buf_deinit(struct buf *b);
/* Empties it and clears the failure; keeps the memory. */
void buf_reset(struct buf *b);

static inline void buf_add(struct buf *b, const void *bytes, size_t n);
static inline void buf_add_byte(struct buf *b, char c);
static inline void buf_add_cstr(struct buf *b, const char *s);
void buf_add_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* In decimal, without printf's cost. */
void buf_add_u64(struct buf *b, uint64_t v);
/* Room for n bytes at the end, to be filled by the caller and declared with buf_commit; NULL when
 * there is no room. */
MUST_CHECK char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* Removes the first n bytes (n <= len). O(len). */
void buf_drop_front(struct buf *b, size_t n);
/* Keeps only the first n bytes (n <= len). */
void buf_truncate(struct buf *b, size_t n);

/* buf_add, for what does not fit into the memory that is there. */
void buf_add_slow(struct buf *b, const void *bytes, size_t n);

/* Writers add little by little: the usual case is a copy. */
static inline void buf_add(struct buf *b, const void *bytes, size_t n)
{
    if (UNLIKELY(b->failed || n == 0 || b->size_bytes == 0 || n >= b->size_bytes - b->len)) {
        buf_add_slow(b, bytes, n);
        return;
    }
    memcpy(b->ptr + b->len, bytes, n);
    b->len += n;
    b->ptr[b->len] = '\0';
}
static inline void buf_add_byte(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}
static inline void buf_add_cstr(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}
static inline void buf_add_str(struct buf *b, struct str s)
{
    buf_add(b, s.ptr, s.len);
}
static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}
/* Valid until the next write. */
static inline struct str buf_str(const struct buf *b)
{
    return str_make(b->ptr != NULL ? b->ptr : "", b->len);
}

#endif
