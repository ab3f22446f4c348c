/* Redis replies: read in whatever pieces they come, held to the reader's limits. */
#include "check.h"

#include "base/buf.h"
#include "stores/redis_reply.h"

/* `n` arrays around one integer. */
static void write_nested(struct buf *out, int n)
{
    buf_reset(out);
    for (int i = 0; i < n; i++) {
        buf_add_str(out, STR_LIT("*1\r\n"));
    }
    buf_add_str(out, STR_LIT(":7\r\n"));
}

/* Feeds `piece` bytes at a time, up to the first reply or failure. */
static enum rc read_one(struct redis_reader *r, struct str all, size_t piece,
                        const struct redis_reply **reply, struct err *err)
{
    enum rc rc = RC_OK;
    *reply = NULL;
    while (all.len > 0 && rc == RC_OK && *reply == NULL) {
        size_t n = MIN(piece, all.len);
        rc = redis_reader_feed(r, str_slice(all, 0, n), err);
        all = str_slice(all, n, all.len);
        if (rc == RC_OK) {
            rc = redis_reader_next(r, reply, err);
        }
    }
    return rc;
}

static void arrays_lie_in_so_many_arrays_and_no_more(void **state)
{
    (void)state;
    struct buf bytes;
    struct err err;
    buf_init(&bytes, 4096);
    for (size_t piece = 1; piece <= 64; piece += 3) {
        struct redis_reader *r;
        const struct redis_reply *reply;
        redis_reader_create(&r);
        write_nested(&bytes, REDIS_REPLY_DEPTH_MAX);
        assert_int_equal(read_one(r, buf_str(&bytes), piece, &reply, &err), RC_OK);
        for (int i = 0; i < REDIS_REPLY_DEPTH_MAX; i++) {
            assert_non_null(reply);
            assert_int_equal(reply->type, REDIS_ARRAY);
            assert_int_equal(reply->n, 1);
            reply = reply->items;
        }
        assert_int_equal(reply->type, REDIS_INTEGER);
        assert_int_equal(reply->integer, 7);

        write_nested(&bytes, REDIS_REPLY_DEPTH_MAX + 1);
        assert_int_equal(read_one(r, buf_str(&bytes), piece, &reply, &err), RC_TOO_LARGE);
        assert_non_null(strstr(err.msg, "arrays deep"));
        assert_int_equal(redis_reader_feed(r, STR_LIT(":1\r\n"), &err), RC_TOO_LARGE);
        redis_reader_destroy(r);
    }
    buf_deinit(&bytes);
}

static void one_reply_has_so_many_items(void **state)
{
    (void)state;
    struct redis_reader *r;
    const struct redis_reply *reply;
    struct err err;
    struct buf bytes;
    buf_init(&bytes, 4096);
    redis_reader_create(&r);
    buf_add_printf(&bytes, "*2\r\n*0\r\n*%d\r\n:1\r\n", REDIS_REPLY_ITEMS_MAX - 1);
    assert_int_equal(read_one(r, buf_str(&bytes), 5, &reply, &err), RC_TOO_LARGE);
    redis_reader_destroy(r);

    /* The next reply begins its count anew. */
    redis_reader_create(&r);
    for (int i = 0; i < 3; i++) {
        buf_reset(&bytes);
        buf_add_str(&bytes, STR_LIT("*2\r\n$3\r\na\r\n\r\n-ERR no\r\n"));
        assert_int_equal(read_one(r, buf_str(&bytes), 4, &reply, &err), RC_OK);
        assert_int_equal(reply->n, 2);
        assert_true(str_eq(reply->items[0].text, STR_LIT("a\r\n")));
        assert_int_equal(reply->items[1].type, REDIS_FAILED);
        assert_true(str_eq(reply->items[1].text, STR_LIT("ERR no")));
    }
    redis_reader_destroy(r);
    buf_deinit(&bytes);
}

static void what_is_not_the_protocol_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"hello\r\n", "*x\r\n", ":1x\r\n", "$-5\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct redis_reader *r;
        const struct redis_reply *reply;
        struct err err;
        redis_reader_create(&r);
        assert_int_equal(read_one(r, str_from(wrong[i]), 64, &reply, &err), RC_CORRUPT);
        assert_null(reply);
        assert_int_equal(redis_reader_next(r, &reply, &err), RC_CORRUPT);
        redis_reader_destroy(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_lie_in_so_many_arrays_and_no_more),
        cmocka_unit_test(one_reply_has_so_many_items),
        cmocka_unit_test(what_is_not_the_protocol_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
