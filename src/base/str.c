/* str.c: searching, cutting, numbers and UTF-8 of borrowed strings. */
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/assert.h"
#include "base/checked.h"

size_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0) {
        return 0;
    }
    if (s.len < needle.len) {
        return s.len;
    }
    const char *hit = memmem(s.ptr, s.len, needle.ptr, needle.len);
    return hit == NULL ? s.len : (size_t)(hit - s.ptr);
}

bool str_same_nocase(const char *a, const char *b, size_t n)
{
    return n == 0 || strncasecmp(a, b, n) == 0;
}

static bool str_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool str_matches(struct str pattern, struct str s)
{
    size_t p = 0, at = 0, star = SIZE_MAX, from = 0;
    while (at < s.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            from = at;
        } else if (p < pattern.len && pattern.ptr[p] == s.ptr[at]) {
            p++;
            at++;
        } else if (star != SIZE_MAX) { /* the last star takes one byte more */
            p = star + 1;
            at = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*') {
        p++;
    }
    return p == pattern.len;
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && str_is_space(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && str_is_space(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

struct str str_cut(struct str *rest, char sep)
{
    const char *hit = rest->len > 0 ? memchr(rest->ptr, sep, rest->len) : NULL;
    if (hit == NULL) {
        struct str all = *rest;
        *rest = STR_NULL;
        return all;
    }
    struct str part = {rest->ptr, (size_t)(hit - rest->ptr)};
    *rest = (struct str){hit + 1, rest->len - part.len - 1};
    return part;
}

/* ---- numbers ---- */

bool str_to_u64(struct str s, uint64_t *out)
{
    uint64_t value = 0;
    if (s.len == 0) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (digit > 9 || !checked_mul(value, 10u, &value) || !checked_add(value, digit, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

bool str_to_i64(struct str s, int64_t *out)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    uint64_t magnitude;
    if (!str_to_u64(negative ? str_slice(s, 1, s.len) : s, &magnitude)) {
        return false;
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1u : 0u)) {
        return false;
    }
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool str_to_f64(struct str s, double *out)
{
    char text[64];
    if (s.len == 0 || s.len >= sizeof(text) || str_is_space(s.ptr[0])) {
        return false;
    }
    str_copy(text, sizeof(text), s);
    char *end = NULL;
    double value = strtod(text, &end);
    if (end != text + s.len || !isfinite(value)) {
        return false;
    }
    *out = value;
    return true;
}

size_t str_put_u64(char dst[STR_U64_BYTES], uint64_t v)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    size_t n = 1;
    for (uint64_t rest = v; rest >= 10; n++) {
        /* Three digits a step: a division costs more than a comparison. */
        if (rest >= 1000) {
            rest /= 1000;
            n += 2;
        } else {
            rest /= 10;
        }
    }
    size_t at = n;
    while (v >= 100) {
        at -= 2;
        memcpy(dst + at, pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        memcpy(dst, pairs + v * 2, 2);
    } else {
        dst[0] = (char)('0' + v);
    }
    return n;
}

bool str_copy(char *dst, size_t dst_bytes, struct str s)
{
    ASSERT(dst_bytes > 0);
    size_t n = MIN(s.len, dst_bytes - 1);
    if (n > 0) {
        memcpy(dst, s.ptr, n);
    }
    dst[n] = '\0';
    return n == s.len;
}

/* ---- UTF-8 ---- */

size_t str_utf8_decode(struct str s, uint32_t *cp)
{
    if (s.len == 0) {
        return 0;
    }
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || s.len < n) {
        return 0;
    }
    uint32_t value = p[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
        value = (value << 6) | (p[i] & 0x3Fu);
    }
    bool overlong = (n == 3 && value < 0x800) || (n == 4 && value < 0x10000);
    if (overlong || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        return 0;
    }
    *cp = value;
    return n;
}

size_t str_utf8_encode(uint32_t cp, char out[4])
{
    ASSERT(cp <= 0x10FFFF);
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | (cp >> 6));
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | (cp >> 12));
        out[1] = (char)(0x80 | ((cp >> 6) & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (cp >> 18));
    out[1] = (char)(0x80 | ((cp >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((cp >> 6) & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool str_utf8_valid(struct str s)
{
    uint32_t cp;
    while (s.len > 0) {
        size_t n = str_utf8_decode(s, &cp);
        if (n == 0) {
            return false;
        }
        s = str_slice(s, n, s.len);
    }
    return true;
}
