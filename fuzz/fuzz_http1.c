/* The HTTP/1 parser sees the same messages in whatever pieces the bytes come. The first byte picks
 * request or response, the second seeds the pieces. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/http1_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note_head(struct buf *out, const struct http_head *h)
{
    buf_add_printf(out, "head %d %d %d %d %llu ", (int)h->method, h->status, (int)h->framing,
                   h->keep_alive, (unsigned long long)h->content_length);
    buf_add_str(out, h->path);
    buf_add_byte(out, '?');
    buf_add_str(out, h->query);
    for (uint32_t i = 0; i < h->n_headers; i++) {
        ASSERT(http_name_valid(h->headers[i].name));
        ASSERT(http_value_valid(h->headers[i].value));
        buf_add_str(out, h->headers[i].name);
        buf_add_str(out, h->headers[i].value);
    }
}

enum go { GO_ON, GO_MORE, GO_FAILED };

static enum go step(struct http1_parser *p, struct arena *a, struct str in, size_t *used,
                    struct buf *out)
{
    struct http1_step s;
    enum rc rc = http1_parse_step(p, str_slice(in, *used, in.len), &s, NULL);
    if (rc != RC_OK) {
        int status = http1_parse_status(p);
        ASSERT(status >= 400 && status <= 505);
        buf_add_printf(out, "failed %d %d", (int)rc, status);
        return GO_FAILED;
    }
    ASSERT(s.n_used <= in.len - *used);
    *used += s.n_used;
    switch (s.event) {
    case HTTP1_MORE:
        return GO_MORE;
    case HTTP1_HEAD:
        note_head(out, http1_parse_head(p));
        break;
    case HTTP1_BODY:
        ASSERT(s.body.len > 0);
        buf_add_str(out, s.body);
        break;
    case HTTP1_END:
        buf_add_cstr(out, " end ");
        http1_parse_next(p, false);
        arena_reset(a);
        break;
    }
    return GO_ON;
}

/* seed 0: the whole stream at once; else in pieces of 1 to 40 bytes. */
static void run(enum http1_kind kind, struct str all, uint32_t seed, struct buf *out)
{
    struct arena a;
    struct http1_parser *p;
    arena_init(&a, 1 << 20);
    ASSERT(http1_parse_create(&p, kind, &a, NULL) == RC_OK);
    size_t used = 0, given = seed == 0 ? all.len : 0;
    enum go go = GO_MORE;
    while (go != GO_FAILED) {
        do {
            go = step(p, &a, str_slice(all, 0, given), &used, out);
        } while (go == GO_ON);
        if (given == all.len) {
            break;
        }
        seed = seed * 1664525u + 1013904223u;
        given = MIN(all.len, given + 1 + (seed >> 24) % 40);
    }
    http1_parse_destroy(p);
    arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    enum http1_kind kind = (data[0] & 1) != 0 ? HTTP1_RESPONSE : HTTP1_REQUEST;
    struct str all = str_make((const char *)data + 2, size - 2);
    struct buf whole, pieces;
    buf_init(&whole, 1 << 24);
    buf_init(&pieces, 1 << 24);
    run(kind, all, 0, &whole);
    run(kind, all, data[1] + 1u, &pieces);
    ASSERT(str_eq(buf_str(&whole), buf_str(&pieces)));
    buf_deinit(&whole);
    buf_deinit(&pieces);
    return 0;
}
