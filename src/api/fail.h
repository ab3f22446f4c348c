/* fail.h: an error as the client sees it: body and headers, both from the error's row. */
#ifndef API_FAIL_H
#define API_FAIL_H

#include "api/types.h"
#include "base/buf.h"
#include "base/err.h"

enum {
    API_FAIL_HEADERS_MAX = 4,
    API_FAIL_WAIT_MS_MAX = 120000, /* SDKs take a longer wait for "do not retry" */
};

/* {"error":{"message","type","param","code"}}; param is null when the error has none. Messages of
 * RC_INTERNAL, RC_CORRUPT and RC_IO stay inside (they may name files): a fixed text stands in. */
void api_fail_write(struct buf *out, const struct err *err);

/* Headers that tell the client whether and when to come again: x-should-retry always, retry-after
 * and retry-after-ms with retryable 409, 429 and 503, www-authenticate with 401. wait_ms 0 = a
 * default. Returns how many were written. */
uint32_t api_fail_headers(const struct err *err, uint32_t wait_ms,
                          struct api_header out[API_FAIL_HEADERS_MAX]);

#endif
