/* The scripts that keep answers, each in a real Redis server: told twice, with gaps, past the cap,
 * forgotten, silent; and the bytes that lie there. */
#include "../stores/redis_server.h"

#include <unistd.h>

#include "base/clock.h"
#include "gateway/answer_wire.h"
#include "net/loop.h"
#include "stores/redis.h"

enum { CAP = 1000, KEEP_MS = 600000, DEAD_MS = 600000, WORDS_MAX = 24 };

struct rig {
    struct redis_server server;
    struct loop *loop;
    struct redis *redis;
    uint32_t claim, tell, read;
    struct answer_keys keys;
    /* the last reply */
    struct answer_claimed claimed;
    int64_t told;
    struct answer_news news;
    char blocks[256]; /* the first byte behind the seal of each */
};

static void rig_on_state(void *ctx, bool ready)
{
    if (ready) {
        loop_stop(((struct rig *)ctx)->loop);
    }
}

static void rig_open(struct rig *g)
{
    static const unsigned char name[ANSWER_NAME_BYTES] = "0123456789abcdef";
    memset(g, 0, sizeof(*g));
    redis_server_init(&g->server);
    redis_server_start(&g->server, NULL);
    assert_int_equal(loop_create(&g->loop, clock_system(), NULL), RC_OK);
    const struct redis_conf conf = {.url = str_from(g->server.url),
                                    .command_ms = 60000,
                                    .connect_ms = 60000,
                                    .on_state = rig_on_state,
                                    .ctx = g};
    assert_int_equal(redis_create(&g->redis, g->loop, &conf, NULL), RC_OK);
    g->claim = redis_script_add(g->redis, answer_script_claim);
    g->tell = redis_script_add(g->redis, answer_script_tell);
    g->read = redis_script_add(g->redis, answer_script_read);
    answer_wire_keys(name, &g->keys);
    loop_run(g->loop);
}

static void rig_close(struct rig *g)
{
    redis_destroy(g->redis);
    loop_destroy(g->loop);
    redis_server_end(&g->server);
}

static void on_claim(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct rig *g = ctx;
    assert_int_equal(rc, RC_OK);
    assert_true(answer_wire_read_claim(reply, &g->claimed));
    loop_stop(g->loop);
}

static void on_told(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct rig *g = ctx;
    assert_int_equal(rc, RC_OK);
    assert_true(answer_wire_read_told(reply, &g->told));
    loop_stop(g->loop);
}

static void on_news(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct rig *g = ctx;
    assert_int_equal(rc, RC_OK);
    assert_true(answer_wire_read_news(reply, &g->news));
    assert_true(g->news.n_blocks < sizeof(g->blocks));
    for (uint32_t i = 0; i < g->news.n_blocks; i++) {
        g->blocks[i] = g->news.blocks[i].text.ptr[ANSWER_WIRE_BLOCK_MIN];
    }
    g->blocks[g->news.n_blocks] = '\0';
    loop_stop(g->loop);
}

static void run(struct rig *g, uint32_t script, const struct str *more, uint32_t n, redis_cb cb)
{
    struct str words[WORDS_MAX] = {str_from(g->keys.hash), str_from(g->keys.blocks)};
    memcpy(words + 2, more, n * sizeof(more[0]));
    assert_int_equal(redis_eval(g->redis, script, words, n + 2, 2, cb, g), RC_OK);
    loop_run(g->loop);
}

/* Tags are one character, eight times. */
static struct str tag_of(char c, char out[ANSWER_WIRE_TAG_BYTES])
{
    memset(out, c, ANSWER_WIRE_TAG_BYTES);
    return str_make(out, ANSWER_WIRE_TAG_BYTES);
}

struct asks {
    char tag, last; /* last 0 = none */
    const char *scope, *body, *from, *dead_ms;
};

static enum answer_wire_claim claim(struct rig *g, struct asks a)
{
    char tag[ANSWER_WIRE_TAG_BYTES], last[ANSWER_WIRE_TAG_BYTES], keep[16], dead[16];
    snprintf(keep, sizeof(keep), "%d", KEEP_MS);
    snprintf(dead, sizeof(dead), "%d", DEAD_MS);
    const struct str words[] = {tag_of(a.tag, tag),
                                str_from(a.scope != NULL ? a.scope : "scope"),
                                str_from(a.body != NULL ? a.body : "body"),
                                a.last != 0 ? tag_of(a.last, last) : STR_LIT(""),
                                str_from(a.from != NULL ? a.from : "0"),
                                str_from(a.dead_ms != NULL ? a.dead_ms : dead),
                                str_from(keep)};
    run(g, g->claim, words, ARRAY_LEN(words), on_claim);
    return g->claimed.how;
}

/* `blocks`: each character is one of 100 bytes. */
static int64_t tell(struct rig *g, char tag, uint64_t from, bool anew, const char *state,
                    const char *blocks)
{
    char text[ANSWER_WIRE_TAG_BYTES], number[STR_U64_BYTES], body[8][100], cap[16];
    snprintf(cap, sizeof(cap), "%d", CAP);
    struct str words[WORDS_MAX] = {tag_of(tag, text),
                                   STR_LIT("scope"),
                                   STR_LIT("body"),
                                   str_make(number, str_put_u64(number, from)),
                                   anew ? STR_LIT("1") : STR_LIT("0"),
                                   str_from(state),
                                   STR_LIT("0"),
                                   STR_LIT("a head"),
                                   STR_LIT("60000"),
                                   STR_LIT("60000"),
                                   str_from(cap)};
    uint32_t n = 11;
    for (size_t i = 0; blocks[i] != '\0'; i++) {
        assert_true(i < ARRAY_LEN(body));
        memset(body[i], blocks[i], sizeof(body[i]));
        body[i][0] = 0;
        words[n++] = str_make(body[i], sizeof(body[i]));
    }
    run(g, g->tell, words, n, on_told);
    return g->told;
}

static char news(struct rig *g, char tag, const char *from, const char *dead_ms)
{
    char text[ANSWER_WIRE_TAG_BYTES];
    const struct str words[] = {tag_of(tag, text), str_from(from), STR_LIT("1"), str_from(dead_ms)};
    run(g, g->read, words, ARRAY_LEN(words), on_news);
    return g->news.state;
}

/* ---- who has it ---- */

static void a_claim_may_be_repeated(void **state)
{
    UNUSED(state);
    struct rig g;
    rig_open(&g);
    assert_int_equal(claim(&g, (struct asks){.tag = 'a'}), ANSWER_WIRE_NEW);
    assert_int_equal(claim(&g, (struct asks){.tag = 'a'}), ANSWER_WIRE_NEW);
    assert_int_equal(claim(&g, (struct asks){.tag = 'b'}), ANSWER_WIRE_FOUND);
    assert_true(g.claimed.tag == 0x6161616161616161u && g.claimed.first == 0);
    assert_int_equal(claim(&g, (struct asks){.tag = 'b', .body = "other"}), ANSWER_WIRE_OTHER_BODY);
    static const struct {
        struct asks ask;
        enum answer_wire_claim running, done;
    } behind[] = {
        {{.tag = 'b', .last = 'a', .from = "1"}, ANSWER_WIRE_FOUND, ANSWER_WIRE_FOUND},
        {{.tag = 'b', .last = 'a', .from = "2"}, ANSWER_WIRE_FOUND, ANSWER_WIRE_FOUND},
        {{.tag = 'b', .last = 'a', .from = "3"}, ANSWER_WIRE_FOUND, ANSWER_WIRE_LOST},
        {{.tag = 'b', .last = 'c', .from = "1"}, ANSWER_WIRE_LOST, ANSWER_WIRE_LOST},
        {{.tag = 'b', .last = 'a', .from = "1", .scope = "s"}, ANSWER_WIRE_LOST, ANSWER_WIRE_LOST},
        {{.tag = 'b', .last = 'a', .from = "1", .body = "x"},
         ANSWER_WIRE_OTHER_BODY,
         ANSWER_WIRE_OTHER_BODY},
    };
    assert_int_equal(tell(&g, 'a', 0, true, "r", "12"), 2);
    for (size_t i = 0; i < ARRAY_LEN(behind); i++) {
        assert_int_equal(claim(&g, behind[i].ask), behind[i].running);
    }
    assert_int_equal(tell(&g, 'a', 2, false, "d", ""), 2);
    for (size_t i = 0; i < ARRAY_LEN(behind); i++) {
        assert_int_equal(claim(&g, behind[i].ask), behind[i].done);
    }
    assert_int_equal(claim(&g, (struct asks){.tag = 'b'}), ANSWER_WIRE_FOUND);
    rig_close(&g);
}

static void ends_decide_who_begins_anew(void **state)
{
    UNUSED(state);
    struct rig g;
    rig_open(&g);
    static const char *const ends[] = {"f", "x"};
    char tag = 'a';
    for (size_t i = 0; i < ARRAY_LEN(ends); i++, tag++) {
        assert_int_equal(claim(&g, (struct asks){.tag = tag}), ANSWER_WIRE_NEW);
        assert_int_equal(tell(&g, tag, 0, true, ends[i], "12"), 2);
        assert_int_equal(news(&g, tag, "0", "60000"), ends[i][0]); /* its readers may finish */
        assert_string_equal(g.blocks, "12");
    }
    assert_int_equal(claim(&g, (struct asks){.tag = tag}), ANSWER_WIRE_NEW);
    assert_int_equal(news(&g, 'b', "0", "60000"), '-');
    assert_int_equal(tell(&g, 'b', 2, false, "d", ""), ANSWER_TOLD_GONE);
    /* No beat: dead. */
    while (news(&g, tag, "0", "1") != 'i') {
        usleep(1000);
    }
    assert_int_equal(news(&g, tag, "0", "600000"), 'r');
    while (claim(&g, (struct asks){.tag = 'z', .dead_ms = "1"}) != ANSWER_WIRE_NEW) {
        usleep(1000);
    }
    assert_int_equal(news(&g, tag, "0", "1"), '-');
    rig_close(&g);
}

/* Redis stood still, and another asks before the writer speaks again: no death. */
static void a_beat_takes_doubts_away(void **state)
{
    UNUSED(state);
    struct rig g;
    rig_open(&g);
    const struct asks late = {.tag = 'b', .dead_ms = "2"};
    assert_int_equal(claim(&g, (struct asks){.tag = 'a'}), ANSWER_WIRE_NEW);
    for (int i = 0; i < 3; i++) {
        usleep(4000);
        assert_int_equal(claim(&g, late), ANSWER_WIRE_FOUND); /* the first to see it */
        usleep(4000);
        if (i < 2) {
            assert_int_equal(tell(&g, 'a', 0, true, "r", ""), 0);
        }
    }
    assert_int_equal(claim(&g, (struct asks){.tag = 'a'}), ANSWER_WIRE_NEW); /* a beat, too */
    usleep(4000);
    assert_int_equal(news(&g, 'a', "0", "2"), 'r');
    usleep(4000);
    assert_int_equal(news(&g, 'a', "0", "2"), 'i');
    assert_int_equal(claim(&g, late), ANSWER_WIRE_NEW);
    rig_close(&g);
}

/* ---- what is told ---- */

static void what_is_told_twice_counts_once(void **state)
{
    UNUSED(state);
    struct rig g;
    rig_open(&g);
    assert_int_equal(claim(&g, (struct asks){.tag = 'a'}), ANSWER_WIRE_NEW);
    assert_int_equal(tell(&g, 'a', 0, true, "r", "12"), 2);
    assert_int_equal(tell(&g, 'a', 0, true, "r", "12"), 2);
    assert_int_equal(tell(&g, 'a', 1, false, "r", "23"), 3);
    assert_int_equal(tell(&g, 'a', 0, true, "r", "1"), 3);
    assert_int_equal(news(&g, 'a', "0", "60000"), 'r');
    assert_string_equal(g.blocks, "123");
    assert_int_equal(news(&g, 'a', "2", "60000"), 'r');
    assert_string_equal(g.blocks, "3");
    assert_int_equal(news(&g, 'a', "9", "60000"), 'r'); /* behind what is there */
    assert_int_equal(g.news.n_blocks, 0);
    assert_true(str_is(g.news.head, "a head"));
    assert_int_equal(tell(&g, 'a', 5, false, "r", "6"), ANSWER_TOLD_GAP);
    assert_int_equal(tell(&g, 'a', 5, true, "r", "6"), 6); /* its writer has nothing older */
    assert_int_equal(news(&g, 'a', "5", "60000"), 'r');
    assert_true(g.news.first == 5 && g.news.n == 6);
    assert_string_equal(g.blocks, "6");
    assert_int_equal(claim(&g, (struct asks){.tag = 'b'}), ANSWER_WIRE_OVERRUN);
    rig_close(&g);
}

static void the_cap_lets_the_oldest_go(void **state)
{
    UNUSED(state);
    struct rig g;
    rig_open(&g);
    assert_int_equal(tell(&g, 'a', 0, true, "r", "12345678"), 8); /* a random name: no claim */
    assert_int_equal(tell(&g, 'a', 8, false, "r", "9"), 9);
    assert_int_equal(tell(&g, 'a', 9, false, "r", "abc"), 12);
    assert_int_equal(news(&g, 'a', "0", "60000"), 'r'); /* before what is there */
    assert_int_equal(g.news.n_blocks, 0);
    assert_int_equal(g.news.first, 2);
    assert_int_equal(news(&g, 'a', "2", "60000"), 'r');
    assert_string_equal(g.blocks, "3456789abc");
    rig_close(&g);
}

static void on_done(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    assert_true(rc == RC_OK && reply->type != REDIS_FAILED);
    loop_stop(((struct rig *)ctx)->loop);
}

static void what_was_forgotten_is_told_again(void **state)
{
    UNUSED(state);
    struct rig g;
    const struct str flush = STR_LIT("FLUSHALL");
    rig_open(&g);
    assert_int_equal(claim(&g, (struct asks){.tag = 'a'}), ANSWER_WIRE_NEW);
    assert_int_equal(tell(&g, 'a', 0, true, "r", "12"), 2);
    assert_int_equal(redis_send(g.redis, &flush, 1, on_done, &g), RC_OK);
    loop_run(g.loop);
    assert_int_equal(tell(&g, 'a', 2, false, "r", "3"), ANSWER_TOLD_GAP);
    assert_int_equal(tell(&g, 'a', 0, true, "r", "123"), 3);
    assert_int_equal(claim(&g, (struct asks){.tag = 'b'}), ANSWER_WIRE_FOUND);
    assert_int_equal(claim(&g, (struct asks){.tag = 'b', .body = "x"}), ANSWER_WIRE_OTHER_BODY);
    assert_int_equal(news(&g, 'a', "0", "60000"), 'r');
    assert_string_equal(g.blocks, "123");
    rig_close(&g);
}

/* ---- bytes ---- */

static void heads_are_sealed(void **state)
{
    UNUSED(state);
    static const struct answer_head heads[] = {
        {.status = 200, .length = -1, .stream = true, .lines = STR_LIT("a: b\nc: d e\n")},
        {.status = 503, .length = 0, .stream = false, .lines = STR_LIT("")},
        {.status = 400, .length = INT64_MAX, .stream = false, .lines = STR_LIT("x: \n")}};
    struct answer a = {.begun = true, .key = "a key of thirty-two bytes of it"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct buf sealed, text;
        struct answer_head out;
        buf_init(&sealed, ANSWER_WIRE_HEAD_BYTES);
        buf_init(&text, ANSWER_WIRE_HEAD_BYTES);
        a.head = heads[i];
        assert_int_equal(answer_wire_seal_head(&a, &sealed), RC_OK);
        assert_true(str_find(buf_str(&sealed), STR_LIT("a: b")) == sealed.len);
        assert_int_equal(answer_wire_open_head(&a, buf_str(&sealed), &text, &out), RC_OK);
        assert_int_equal(out.status, heads[i].status);
        assert_true(out.length == heads[i].length && out.stream == heads[i].stream);
        assert_true(str_eq(out.lines, heads[i].lines));
        for (size_t n = 0; n < sealed.len; n++) { /* any byte changed */
            buf_reset(&text);
            sealed.ptr[n] ^= 1;
            assert_int_equal(answer_wire_open_head(&a, buf_str(&sealed), &text, &out), RC_CORRUPT);
            sealed.ptr[n] ^= 1;
        }
        buf_deinit(&sealed);
        buf_deinit(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_may_be_repeated),
        cmocka_unit_test(ends_decide_who_begins_anew),
        cmocka_unit_test(a_beat_takes_doubts_away),
        cmocka_unit_test(what_is_told_twice_counts_once),
        cmocka_unit_test(the_cap_lets_the_oldest_go),
        cmocka_unit_test(what_was_forgotten_is_told_again),
        cmocka_unit_test(heads_are_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
