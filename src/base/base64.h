/* base64.h: base64 with padding (RFC 4648 §4), as JSON bodies carry bytes. For the URL-safe form
 * see crypto.h. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/compiler.h"

/* Characters for n bytes, without the NUL. n below SIZE_MAX / 2. */
static inline size_t base64_len(size_t n)
{
    return (n + 2) / 3 * 4;
}

/* Writes base64_len(n) characters, no NUL. */
void base64_encode(const void *bytes, size_t n, char *out);

#endif
