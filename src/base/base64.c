/* base64.c: see base64.h. */
#include "base/base64.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t n, char *out)
{
    const unsigned char *in = bytes;
    size_t at = 0;
    for (; at + 3 <= n; at += 3, out += 4) {
        uint32_t group = (uint32_t)in[at] << 16 | (uint32_t)in[at + 1] << 8 | in[at + 2];
        out[0] = base64_digits[group >> 18];
        out[1] = base64_digits[group >> 12 & 63];
        out[2] = base64_digits[group >> 6 & 63];
        out[3] = base64_digits[group & 63];
    }
    if (at < n) {
        bool two = at + 2 == n;
        uint32_t group = (uint32_t)in[at] << 16 | (two ? (uint32_t)in[at + 1] << 8 : 0);
        out[0] = base64_digits[group >> 18];
        out[1] = base64_digits[group >> 12 & 63];
        out[2] = two ? base64_digits[group >> 6 & 63] : '=';
        out[3] = '=';
    }
}
