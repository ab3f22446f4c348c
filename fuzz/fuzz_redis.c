/* Redis replies are the same in whatever pieces their bytes come, and keep their bounds. The first
 * byte seeds the pieces. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/buf.h"
#include "stores/redis_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(struct buf *out, const struct redis_reply *reply, int depth)
{
    ASSERT(depth <= REDIS_REPLY_DEPTH_MAX && reply->text.len <= REDIS_REPLY_BYTES_MAX);
    buf_add_printf(out, "%d %lld %zu ", (int)reply->type, (long long)reply->integer,
                   reply->text.len);
    buf_add_str(out, reply->text);
    for (uint32_t i = 0; i < reply->n; i++) {
        note(out, &reply->items[i], depth + 1);
    }
}

static void run(struct str all, uint32_t seed, struct buf *out)
{
    struct redis_reader *r = NULL;
    const struct redis_reply *reply = NULL;
    enum rc rc = RC_OK;
    redis_reader_create(&r);
    while (all.len > 0 && rc == RC_OK) {
        size_t n = seed == 0 ? all.len : MIN(all.len, (size_t)1 + (seed >> 24) % 20);
        rc = redis_reader_feed(r, str_slice(all, 0, n), NULL);
        all = str_slice(all, n, all.len);
        seed = seed * 1664525u + (seed != 0 ? 1013904223u : 0);
        while (rc == RC_OK && (rc = redis_reader_next(r, &reply, NULL)) == RC_OK && reply != NULL) {
            note(out, reply, 0);
        }
    }
    buf_add_printf(out, "%d", (int)rc);
    redis_reader_destroy(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct str all = str_make((const char *)data + 1, size - 1);
    struct buf whole, pieces;
    buf_init(&whole, 1 << 26);
    buf_init(&pieces, 1 << 26);
    run(all, 0, &whole);
    run(all, data[0] + 1u, &pieces);
    ASSERT(str_eq(buf_str(&whole), buf_str(&pieces)));
    buf_deinit(&whole);
    buf_deinit(&pieces);
    return 0;
}
