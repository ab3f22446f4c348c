/* gguf_reader.c: see gguf_reader.h. A mapped source is copied from directly; another is read
 * through a window, so that a file of many short strings does not cost a read each. */
#include "engine/format/gguf_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"

enum { GGUF_WINDOW_BYTES = 65536 };

enum rc gguf_reader_init(struct gguf_reader *r, struct weight_source *source, struct err *err)
{
    *r = (struct gguf_reader){.source = source, .err = err, .what = "header"};
    if (source->map == NULL && source->size_bytes > 0) {
        r->window = mem_try_zalloc(GGUF_WINDOW_BYTES);
        if (r->window == NULL) {
            return err_set(err, RC_NOMEM, "%s: no memory to read it", source->name);
        }
    }
    return RC_OK;
}

void gguf_reader_deinit(struct gguf_reader *r)
{
    mem_free(r->window);
    r->window = NULL;
}

enum rc gguf_reader_fail(struct gguf_reader *r, uint64_t at, const char *fmt, ...)
{
    char text[384];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(r->err, RC_CORRUPT, "%s: at byte %" PRIu64 ": %s", r->source->name, at, text);
}

uint64_t gguf_reader_left(const struct gguf_reader *r)
{
    ASSERT(r->pos <= r->source->size_bytes);
    return r->source->size_bytes - r->pos;
}

static enum rc gguf_reader_refill(struct gguf_reader *r)
{
    size_t n = (size_t)MIN(gguf_reader_left(r), (uint64_t)GGUF_WINDOW_BYTES);
    r->window_len = 0;
    enum rc rc = r->source->read_at(r->source, r->pos, r->window, n, r->err);
    if (rc == RC_OK) {
        r->window_at = r->pos;
        r->window_len = n;
    }
    return rc;
}

enum rc gguf_reader_bytes(struct gguf_reader *r, void *out, size_t n)
{
    if (n > gguf_reader_left(r)) {
        return gguf_reader_fail(r, r->pos,
                                "file ends after %" PRIu64 " bytes, %zu more needed for the %s",
                                r->source->size_bytes, n - (size_t)gguf_reader_left(r), r->what);
    }
    if (n == 0) {
        return RC_OK;
    }
    if (r->source->map != NULL) {
        memcpy(out, r->source->map + r->pos, n);
        r->pos += n;
        return RC_OK;
    }
    if (n > GGUF_WINDOW_BYTES) {
        enum rc rc = r->source->read_at(r->source, r->pos, out, n, r->err);
        r->pos += rc == RC_OK ? n : 0;
        return rc;
    }
    bool inside = r->pos >= r->window_at && r->pos - r->window_at <= r->window_len &&
                  n <= r->window_len - (size_t)(r->pos - r->window_at);
    enum rc rc = inside ? RC_OK : gguf_reader_refill(r);
    if (rc == RC_OK) {
        memcpy(out, r->window + (r->pos - r->window_at), n);
        r->pos += n;
    }
    return rc;
}

enum rc gguf_reader_u32(struct gguf_reader *r, uint32_t *out)
{
    unsigned char b[4];
    enum rc rc = gguf_reader_bytes(r, b, sizeof(b));
    if (rc == RC_OK) {
        *out = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    }
    return rc;
}

enum rc gguf_reader_u64(struct gguf_reader *r, uint64_t *out)
{
    uint32_t low, high;
    enum rc rc = gguf_reader_u32(r, &low);
    if (rc == RC_OK) {
        rc = gguf_reader_u32(r, &high);
    }
    if (rc == RC_OK) {
        *out = (uint64_t)high << 32 | low;
    }
    return rc;
}

enum rc gguf_reader_str(struct gguf_reader *r, struct arena *a, struct str *out)
{
    uint64_t at = r->pos;
    uint64_t len;
    enum rc rc = gguf_reader_u64(r, &len);
    if (rc != RC_OK) {
        return rc;
    }
    if (len > gguf_reader_left(r)) {
        return gguf_reader_fail(
            r, at, "string of %" PRIu64 " bytes, but %" PRIu64 " are left in the file (%s)", len,
            gguf_reader_left(r), r->what);
    }
    char *bytes = arena_alloc(a, (size_t)len + 1);
    if (bytes == NULL) {
        return err_set(r->err, RC_NOMEM, "%s: no memory for its metadata", r->source->name);
    }
    *out = str_make(bytes, (size_t)len);
    return gguf_reader_bytes(r, bytes, (size_t)len);
}
