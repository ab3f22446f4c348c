/* What Redis says of kept answers, any replies at all: what is taken keeps its bounds, and what is
 * no seal of ours is never opened. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "gateway/answer_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_news(const struct redis_reply *reply)
{
    static const struct answer a = {.begun = true};
    struct answer_news news;
    struct answer_head head;
    struct buf text;
    if (!answer_wire_read_news(reply, &news)) {
        return;
    }
    ASSERT(news.first <= news.n && news.n_blocks + 5 == reply->n);
    buf_init(&text, 2 * ANSWER_WIRE_HEAD_BYTES);
    ASSERT(answer_wire_open_head(&a, news.head, &text, &head) == RC_CORRUPT);
    buf_deinit(&text);
    for (uint32_t i = 0; i < news.n_blocks; i++) {
        struct answer_block *b = answer_wire_take_block(news.blocks[i].text);
        ASSERT(b == NULL || str_eq(answer_wire_block(b), news.blocks[i].text));
        mem_free(b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_reader *r = NULL;
    const struct redis_reply *reply = NULL;
    struct answer_claimed claimed;
    int64_t told;
    redis_reader_create(&r);
    enum rc rc = redis_reader_feed(r, str_make((const char *)data, size), NULL);
    while (rc == RC_OK && (rc = redis_reader_next(r, &reply, NULL)) == RC_OK && reply != NULL) {
        ASSERT(!answer_wire_read_claim(reply, &claimed) || claimed.how < ANSWER_WIRE_N);
        ASSERT(!answer_wire_read_told(reply, &told) || told >= ANSWER_TOLD_GAP);
        take_news(reply);
    }
    redis_reader_destroy(r);
    return 0;
}
