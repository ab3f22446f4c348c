/* fail_status.c: see fail_status.h. */
#include "api/fail_status.h"

#include "api/fail.h"

void api_fail_status(struct buf *out, int http_status, const char *message)
{
    static const enum rc codes[] = {RC_HEADERS_TOO_LARGE, RC_TOO_LARGE, RC_TIMEOUT, RC_OVERLOADED};
    struct err err = {0};
    enum rc rc = RC_INVALID;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        rc = err_row(codes[i])->http_status == http_status ? codes[i] : rc;
    }
    err_set(&err, rc, "%s", message);
    api_fail_write(out, &err);
}
