/* json_plain.h: runs of plain bytes in JSON strings, for the readers in json.c and json_scan.c. */
#ifndef BASE_JSON_PLAIN_H
#define BASE_JSON_PLAIN_H

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/compiler.h"

/* How many of JSON_PLAIN_BYTES bytes stand before the first that ends the plain run: quote,
 * backslash, control, non-ASCII. */
#ifdef __SSE2__
enum { JSON_PLAIN_BYTES = 16 };

static inline size_t json_plain(const char *ptr)
{
    __m128i w = _mm_loadu_si128((const __m128i *)(const void *)ptr);
    __m128i quote = _mm_cmpeq_epi8(w, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(w, _mm_set1_epi8('\\'));
    /* As signed bytes, what is not ASCII is below 0x20 too. */
    __m128i low = _mm_cmplt_epi8(w, _mm_set1_epi8(0x20));
    unsigned hit = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), low));
    return hit == 0 ? JSON_PLAIN_BYTES : (size_t)__builtin_ctz(hit);
}
#else
enum { JSON_PLAIN_BYTES = 8 };

/* Borrows of the subtractions can only mark bytes above a true one, which is below. */
static inline size_t json_plain(const char *ptr)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte is the lowest");
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t w;
    memcpy(&w, ptr, sizeof(w));
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
    uint64_t hit = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w);
    hit = (hit | w) & high;
    return hit == 0 ? JSON_PLAIN_BYTES : (size_t)__builtin_ctzll(hit) / 8;
}
#endif

#endif
