/* err.h: the one table of errors (STYLE.md E24, E25).
 *
 * Every function that can fail returns RC; the message is written once, where the failure is
 * known, in the caller's struct err (which may be NULL). The HTTP reply, the exit code, the metric
 * label and the retry decision all come from the error's row. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/compiler.h"

/* name, HTTP status, OpenAI error type, OpenAI error code, retryable, counts against a breaker */
#define ERR_TABLE(X)                                                                               \
    X(OK, 200, "", "", 0, 0)                                                                       \
    X(INVALID, 400, "invalid_request_error", "invalid_value", 0, 0)                                \
    X(SYNTAX, 400, "invalid_request_error", "invalid_json", 0, 0)                                  \
    X(MISSING, 400, "invalid_request_error", "missing_required_parameter", 0, 0)                   \
    X(UNKNOWN_PARAM, 400, "invalid_request_error", "unknown_parameter", 0, 0)                      \
    X(UNSUPPORTED, 400, "invalid_request_error", "unsupported_parameter", 0, 0)                    \
    X(CONTEXT, 400, "invalid_request_error", "context_length_exceeded", 0, 0)                      \
    X(UNAUTHENTICATED, 401, "authentication_error", "invalid_api_key", 0, 0)                       \
    X(FORBIDDEN, 403, "permission_error", "permission_denied", 0, 0)                               \
    X(NOT_FOUND, 404, "not_found_error", "not_found", 0, 0)                                        \
    X(MODEL_NOT_FOUND, 404, "not_found_error", "model_not_found", 0, 0)                            \
    X(METHOD, 405, "invalid_request_error", "method_not_allowed", 0, 0)                            \
    X(CONFLICT, 409, "invalid_request_error", "conflict", 1, 0)                                    \
    X(KEY_REUSED, 409, "invalid_request_error", "idempotency_key_reused", 0, 0)                    \
    X(PRECONDITION, 412, "invalid_request_error", "precondition_failed", 0, 0)                     \
    X(TOO_LARGE, 413, "invalid_request_error", "request_too_large", 0, 0)                          \
    X(MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type", 0, 0)                    \
    X(RATE_LIMITED, 429, "rate_limit_error", "rate_limit_exceeded", 1, 0)                          \
    X(BUSY, 429, "overloaded_error", "server_busy", 1, 0)                                          \
    X(QUOTA, 429, "insufficient_quota", "insufficient_quota", 0, 0)                                \
    X(HEADERS_TOO_LARGE, 431, "invalid_request_error", "headers_too_large", 0, 0)                  \
    X(CANCELLED, 499, "invalid_request_error", "client_closed_request", 0, 0)                      \
    X(INTERNAL, 500, "server_error", "internal_error", 1, 1)                                       \
    X(CORRUPT, 500, "server_error", "corrupt_data", 0, 1)                                          \
    X(IO, 500, "server_error", "io_error", 1, 1)                                                   \
    X(NOMEM, 503, "overloaded_error", "out_of_memory", 1, 0)                                       \
    X(UPSTREAM, 502, "server_error", "upstream_error", 1, 1)                                       \
    X(OVERLOADED, 503, "overloaded_error", "overloaded", 1, 0)                                     \
    X(UNAVAILABLE, 503, "server_error", "unavailable", 1, 1)                                       \
    X(INTERRUPTED, 503, "server_error", "interrupted", 1, 0)                                       \
    X(TIMEOUT, 504, "server_error", "timeout", 1, 1)

enum rc_index {
#define X(name, status, type, code, retry, breaker) RC_INDEX_##name,
    ERR_TABLE(X)
#undef X
        RC_N
};

/* 0 = success, negative = the failure's row. */
enum rc {
#define X(name, status, type, code, retry, breaker) RC_##name = -RC_INDEX_##name,
    ERR_TABLE(X)
#undef X
};

#define RC MUST_CHECK enum rc

struct err_row {
    const char *name;
    int http_status;
    const char *type; /* OpenAI's error.type */
    const char *code; /* OpenAI's error.code */
    bool retryable;
    bool breaker;
};

/* One failure. `param` is the path of the request field at fault ("" = none). */
struct err {
    enum rc code;
    int line;
    uint32_t retry_ms; /* when to try again; 0 = not known. Set behind err_set, which clears it */
    const char *file;
    char param[128];
    char msg[512];
};

/* The row of a code; never NULL. */
const struct err_row *err_row(enum rc rc);

/* Fills *err (if not NULL) and returns `code`. `param` may be NULL. The message is cut to
 * fit; control characters in it become spaces and question marks. */
COLD enum rc err_set_at(struct err *err, enum rc code, const char *file, int line,
                        const char *param, const char *fmt, ...) PRINTF_LIKE(6, 7);

#define err_set(err, code, ...) err_set_at((err), (code), __FILE__, __LINE__, NULL, __VA_ARGS__)
#define err_set_param(err, code, param, ...)                                                       \
    err_set_at((err), (code), __FILE__, __LINE__, (param), __VA_ARGS__)

/* Puts "context: " before the message of an error already set; returns its code. */
enum rc err_context(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
