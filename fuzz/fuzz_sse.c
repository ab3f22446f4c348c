/* The event splitter gives the same items in whatever pieces the bytes come, and keeps its cap. The
 * first byte seeds the pieces. */
#include <stdlib.h>

#include "base/assert.h"
#include "net/sse.h"

enum { ITEM_BYTES_MAX = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(struct buf *out, const struct sse_item *it)
{
    ASSERT(it->name.len <= ITEM_BYTES_MAX && it->data.len <= ITEM_BYTES_MAX);
    buf_add_printf(out, "%d %zu %zu %zu ", (int)it->kind, it->name.len, it->data.len, it->id.len);
    buf_add_str(out, it->name);
    buf_add_str(out, it->data);
    buf_add_str(out, it->id);
}

static void run(struct str all, uint32_t seed, struct buf *out)
{
    struct sse s;
    struct sse_item it;
    sse_init(&s, ITEM_BYTES_MAX);
    while (all.len > 0) {
        size_t n = seed == 0 ? all.len : MIN(all.len, (size_t)1 + (seed >> 24) % 20);
        struct str piece = str_slice(all, 0, n);
        all = str_slice(all, n, all.len);
        seed = seed * 1664525u + (seed != 0 ? 1013904223u : 0);
        while (sse_next(&s, &piece, &it)) {
            note(out, &it);
        }
        ASSERT(piece.len == 0 || sse_failed(&s) != RC_OK);
    }
    buf_add_printf(out, "%d", (int)sse_failed(&s));
    sse_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct str all = str_make((const char *)data + 1, size - 1);
    struct buf whole, pieces;
    buf_init(&whole, 1 << 24);
    buf_init(&pieces, 1 << 24);
    run(all, 0, &whole);
    run(all, data[0] + 1u, &pieces);
    ASSERT(str_eq(buf_str(&whole), buf_str(&pieces)));
    buf_deinit(&whole);
    buf_deinit(&pieces);
    return 0;
}
