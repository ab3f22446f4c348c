/* err.c: the error table and the one place where a failure's message is formatted. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static const struct err_row err_rows[] = {
#define X(name, status, type, code, retry, breaker) {#name, status, type, code, retry, breaker},
    ERR_TABLE(X)
#undef X
};

const struct err_row *err_row(enum rc rc)
{
    int idx = -(int)rc;
    ASSERT(idx >= 0 && idx < (int)RC_N);
    return &err_rows[idx];
}

/* A message is one line: what a file or a client named cannot move the cursor or forge a line. */
static void err_make_one_line(char *msg)
{
    for (; *msg != '\0'; msg++) {
        unsigned char c = (unsigned char)*msg;
        *msg = c == '\n' || c == '\t' ? ' ' : c < 0x20 || c == 0x7F ? '?' : *msg;
    }
}

enum rc err_set_at(struct err *err, enum rc code, const char *file, int line, const char *param,
                   const char *fmt, ...)
{
    ASSERT(code != RC_OK);
    if (err == NULL) {
        return code;
    }
    /* Formatted aside first: an argument may point into *err itself. */
    char msg[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    err_make_one_line(msg);
    char path[sizeof(err->param)];
    snprintf(path, sizeof(path), "%s", param != NULL ? param : "");
    err->code = code;
    err->file = file;
    err->line = line;
    err->retry_ms = 0;
    memcpy(err->param, path, sizeof(path));
    memcpy(err->msg, msg, sizeof(msg));
    return code;
}

enum rc err_context(struct err *err, const char *fmt, ...)
{
    if (err == NULL) {
        return RC_INTERNAL;
    }
    char msg[2 * sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    err_make_one_line(msg);
    size_t used = strlen(msg);
    snprintf(msg + used, sizeof(msg) - used, ": %s", err->msg);
    msg[sizeof(err->msg) - 1] = '\0';
    memcpy(err->msg, msg, sizeof(err->msg));
    return err->code;
}
