/* fail.c: see fail.h. Everything comes from the error's row (base/err.h). */
#include "api/fail.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/json.h"

enum { WAIT_MS_DEFAULT = 1000, WAIT_MS_CONFLICT = 2000 };

/* Failures whose message is for the log, not for the client. */
static bool is_inner(enum rc code)
{
    return code == RC_INTERNAL || code == RC_CORRUPT || code == RC_IO;
}

void api_fail_write(struct buf *out, const struct err *err)
{
    const struct err_row *row = err_row(err->code);
    struct json_writer w;
    ASSERT(err->code != RC_OK);
    const char *message = is_inner(err->code)   ? "the server failed while it processed the request"
                          : err->msg[0] != '\0' ? err->msg
                                                : row->code;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_name(&w, "error");
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "message", message);
    json_write_member_cstr(&w, "type", row->type);
    if (err->param[0] != '\0' && !is_inner(err->code)) {
        json_write_member_cstr(&w, "param", err->param);
    } else {
        json_write_member_null(&w, "param");
    }
    json_write_member_cstr(&w, "code", row->code);
    json_write_object_end(&w);
    json_write_object_end(&w);
}

static struct api_header header(const char *name, const char *value)
{
    struct api_header h = {.name = name};
    str_copy(h.value, sizeof(h.value), str_from(value));
    return h;
}

uint32_t api_fail_headers(const struct err *err, uint32_t wait_ms,
                          struct api_header out[API_FAIL_HEADERS_MAX])
{
    const struct err_row *row = err_row(err->code);
    uint32_t n = 0;
    out[n++] = header("x-should-retry", row->retryable ? "true" : "false");
    bool says_when = row->http_status == 409 || row->http_status == 429 || row->http_status == 503;
    if (row->retryable && says_when) {
        char text[16];
        uint32_t fallback = row->http_status == 409 ? WAIT_MS_CONFLICT : WAIT_MS_DEFAULT;
        wait_ms = MIN(wait_ms == 0 ? fallback : wait_ms, (uint32_t)API_FAIL_WAIT_MS_MAX);
        snprintf(text, sizeof(text), "%u", (wait_ms + 999) / 1000);
        out[n++] = header("retry-after", text);
        snprintf(text, sizeof(text), "%u", wait_ms);
        out[n++] = header("retry-after-ms", text);
    }
    if (row->http_status == 401) {
        out[n++] = header("www-authenticate", "Bearer realm=\"bud\"");
    }
    ASSERT(n <= API_FAIL_HEADERS_MAX);
    return n;
}
