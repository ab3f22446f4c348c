/* str.h: borrowed byte strings with a length; not NUL-terminated, never owned. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <string.h>

#include "base/compiler.h"

struct str {
    const char *ptr;
    size_t len;
};

#define STR_LIT(lit) ((struct str){(lit), sizeof(lit) - 1})
#define STR_NULL     ((struct str){NULL, 0})
/* For "%.*s". */
#define STR(s) (int)(s).len, (s).ptr

static inline struct str str_from(const char *c_string)
{
    return (struct str){c_string, c_string != NULL ? strlen(c_string) : 0};
}

static inline struct str str_make(const char *ptr, size_t len)
{
    return (struct str){ptr, len};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool str_is(struct str a, const char *c_string)
{
    return str_eq(a, str_from(c_string));
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

/* The part [from, to); both are clamped to the length. */
static inline struct str str_slice(struct str s, size_t from, size_t to)
{
    to = MIN(to, s.len);
    from = MIN(from, to);
    return (struct str){s.ptr + from, to - from};
}

/* Byte offset of the first `needle`, or s.len when absent. An empty needle is found at 0. */
size_t str_find(struct str s, struct str needle);

/* ASCII case ignored. */
bool str_same_nocase(const char *a, const char *b, size_t n);
static inline bool str_eq_nocase(struct str a, struct str b)
{
    return a.len == b.len && str_same_nocase(a.ptr, b.ptr, a.len);
}

/* Whether the whole of s fits the pattern, in which '*' stands for any bytes. O(s * stars). */
bool str_matches(struct str pattern, struct str s);

/* Without ASCII white space at both ends. */
struct str str_trim(struct str s);

/* Cuts *rest at the first `sep`, returns the part before it; *rest is what follows (empty and
 * NULL at the end). */
struct str str_cut(struct str *rest, char sep);

/* Whole string must be a number in range; false otherwise, *out untouched. */
MUST_CHECK bool str_to_u64(struct str s, uint64_t *out);
MUST_CHECK bool str_to_i64(struct str s, int64_t *out);
MUST_CHECK bool str_to_f64(struct str s, double *out);

/* Writes v in decimal, without a NUL; returns how many digits. */
enum { STR_U64_BYTES = 20 };
size_t str_put_u64(char dst[STR_U64_BYTES], uint64_t v);

/* Copies into dst with a NUL, cut to fit; returns whether all of it fitted. */
bool str_copy(char *dst, size_t dst_bytes, struct str s);

/* Number of bytes of the UTF-8 sequence that starts at s.ptr (1–4) and its code point in *cp, or
 * 0 when s is empty or the bytes are not valid UTF-8 (RFC 3629: no surrogates, no overlong). */
size_t str_utf8_decode(struct str s, uint32_t *cp);
/* Writes 1–4 bytes; cp must be a scalar value. */
size_t str_utf8_encode(uint32_t cp, char out[4]);
bool str_utf8_valid(struct str s);

#endif
