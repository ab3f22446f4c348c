/* The store of answers by itself, under a fake clock: names, bodies, windows, ends. */
#include "check.h"

#include <string.h>

#include "base/clock.h"
#include "gateway/answer.h"
#include "net/loop.h"

struct rig {
    struct clock_fake clock;
    struct loop *loop;
    struct answers *st;
    struct answer_hub *hub;
    int n_news;
};

static void count_news(void *ctx)
{
    ((struct rig *)ctx)->n_news++;
}

static void stop_loop(void *ctx)
{
    loop_stop(ctx);
}

/* One turn, with everything that waited for it. */
static void turn(struct rig *r)
{
    struct loop_timer end;
    loop_timer_init(&end, r->loop, stop_loop, r->loop);
    loop_timer_start(&end, 1);
    loop_run(r->loop);
}

static void rig_open(struct rig *r, size_t bytes_max, size_t answer_bytes_max)
{
    memset(r, 0, sizeof(*r));
    clock_fake_init(&r->clock, 0);
    clock_fake_advance_ms(&r->clock, 1000);
    const struct answers_conf conf = {
        .bytes_max = bytes_max, .answer_bytes_max = answer_bytes_max, .clock = &r->clock.clock};
    answers_create(&r->st, &conf);
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    assert_int_equal(answer_hub_open(&r->hub, r->st, r->loop, NULL), RC_OK);
}

static void rig_close(struct rig *r)
{
    answer_hub_close(r->hub);
    loop_destroy(r->loop);
    answers_destroy(r->st);
}

static enum answer_claim claim_as(struct rig *r, const char *scope, const char *key,
                                  const char *body, struct answer **a)
{
    uint64_t from;
    const struct answer_ask ask = {.scope = str_from(scope),
                                   .key = key != NULL ? str_from(key) : STR_NULL,
                                   .body = str_from(body)};
    return answers_claim(r->st, &ask, a, &from);
}

static enum answer_claim claim(struct rig *r, const char *key, struct answer **a)
{
    return claim_as(r, "p\nk\n0", key, "body", a);
}

static enum answer_claim claim_behind(struct rig *r, const char *last, struct answer **a,
                                      uint64_t *from)
{
    const struct answer_ask ask = {
        .scope = STR_LIT("p\nk\n0"), .last = str_from(last), .body = STR_LIT("body")};
    return answers_claim(r->st, &ask, a, from);
}

static void begin(struct rig *r, struct answer *a, struct answer_party *w)
{
    const struct answer_head head = {
        .status = 200, .length = -1, .stream = true, .lines = STR_LIT("a: b\n")};
    answer_write(w, a, r->hub, count_news, r);
    assert_int_equal(answer_begin(a, &head), RC_OK);
}

static void append(struct answer *a, const char *text)
{
    assert_int_equal(answer_append(a, str_from(text), false), RC_OK);
}

static void join(struct rig *r, struct answer *a, struct answer_party *p, uint64_t from)
{
    answer_join(p, a, r->hub, from, count_news, r);
}

/* What is read up to where it waits, ends or breaks. */
static enum answer_next read_all(struct answer_party *p, struct buf *out)
{
    bool comment;
    enum answer_next next;
    buf_reset(out);
    while ((next = answer_read(p, out, &comment)) == ANSWER_BLOCK) {}
    return next;
}

/* ---- who finds what ---- */

static void names_are_of_scope_and_key(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a, *b;
    struct answer_party w[4];
    rig_open(&r, 0, 0);
    assert_int_equal(claim(&r, "one", &a), ANSWER_CLAIMED);
    begin(&r, a, &w[0]);
    answer_end(&w[0], ANSWER_DONE, false);
    assert_int_equal(claim(&r, "one", &b), ANSWER_FOUND);
    assert_ptr_equal(a, b);
    answer_put(b);
    assert_int_equal(claim_as(&r, "p\nk\n0", "one", "bodY", &b), ANSWER_OTHER_BODY);
    assert_null(b);
    static const struct {
        const char *scope, *key;
    } others[] = {{"p\nk\n0", "two"}, {"p\nK\n0", "one"}, {"p\nk\n0o", "ne"}};
    for (int i = 0; i < 3; i++) { /* none of them is the first */
        assert_int_equal(claim_as(&r, others[i].scope, others[i].key, "body", &b), ANSWER_CLAIMED);
        assert_ptr_not_equal(a, b);
        begin(&r, b, &w[1 + i]);
        answer_end(&w[1 + i], ANSWER_DONE, false);
        answer_put(b);
    }
    answer_put(a);
    rig_close(&r);
}

static void ends_decide_what_is_kept(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a, *b;
    struct answer_party w, p;
    struct buf out;
    char id[ANSWER_EVENT_ID_BYTES];
    uint64_t from;
    rig_open(&r, 0, 0);
    buf_init(&out, 1024);
    assert_int_equal(claim(&r, "k", &a), ANSWER_CLAIMED);
    begin(&r, a, &w);
    append(a, "1");
    answer_event_id(a, 0, id);
    append(a, "broken");
    answer_end(&w, ANSWER_FAILED, false);
    answer_put(a);
    /* The rest of what failed is there for who saw its beginning … */
    assert_int_equal(claim_behind(&r, id, &a, &from), ANSWER_FOUND);
    join(&r, a, &p, from);
    answer_put(a);
    assert_int_equal(read_all(&p, &out), ANSWER_END);
    assert_string_equal(out.ptr, "broken");
    /* … until its name begins anew, while it is being read too. */
    assert_int_equal(claim(&r, "k", &b), ANSWER_CLAIMED);
    assert_ptr_not_equal(a, b);
    answer_leave(&p);
    begin(&r, b, &w);
    append(b, "2");
    assert_int_equal(claim_behind(&r, id, &a, &from), ANSWER_LOST);
    answer_end(&w, ANSWER_DROPPED, false);
    answer_put(b);
    assert_int_equal(claim(&r, "k", &a), ANSWER_CLAIMED); /* as if it had never been */
    begin(&r, a, &w);
    answer_end(&w, ANSWER_DONE, false);
    answer_put(a);
    buf_deinit(&out);
    rig_close(&r);
}

static void what_was_kept_goes_in_time(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a;
    struct answer_party w, p;
    struct buf out;
    rig_open(&r, 0, 0);
    buf_init(&out, 1024);
    assert_int_equal(claim(&r, "k", &a), ANSWER_CLAIMED);
    begin(&r, a, &w);
    append(a, "x");
    clock_fake_advance_ms(&r.clock, 10 * ANSWER_KEEP_MS);
    answers_sweep(r.st);
    answer_put(a);
    assert_int_equal(claim(&r, "k", &a), ANSWER_FOUND); /* it is being written */
    answer_end(&w, ANSWER_DONE, false);
    clock_fake_advance_ms(&r.clock, ANSWER_KEEP_MS - 1);
    answers_sweep(r.st);
    join(&r, a, &p, 0);
    answer_put(a);
    assert_int_equal(claim(&r, "k", &a), ANSWER_FOUND);
    answer_put(a);
    clock_fake_advance_ms(&r.clock, 1);
    answers_sweep(r.st);
    assert_int_equal(read_all(&p, &out), ANSWER_END); /* who reads holds it */
    assert_true(answers_held(r.st) > 0);
    answer_leave(&p);
    assert_int_equal(answers_held(r.st), 0);
    buf_deinit(&out);
    rig_close(&r);
}

static void event_ids_are_taken_as_they_were_given(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "x",
        "00112233445566778899aabbccddeeff.0011223344556677.",
        "00112233445566778899aabbccddeeff.0011223344556677.x",
        "00112233445566778899aabbccddeefg.0011223344556677.0",
        "00112233445566778899aabbccddeeff.0011223344556677.18446744073709551615",
        "00112233445566778899aabbccddeeff.0011223344556677.99999999999999999999"};
    struct rig r;
    struct answer *a, *b;
    struct answer_party w;
    char id[ANSWER_EVENT_ID_BYTES];
    uint64_t from;
    rig_open(&r, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(claim_behind(&r, wrong[i], &a, &from), ANSWER_LOST);
    }
    assert_int_equal(claim(&r, NULL, &a), ANSWER_CLAIMED); /* bud-resume: nobody else's name */
    begin(&r, a, &w);
    append(a, "1");
    append(a, "2");
    for (uint64_t n = 0; n < 4; n++) {
        answer_event_id(a, n, id);
        enum answer_claim c = claim_behind(&r, id, &b, &from);
        assert_int_equal(c, n < 2 ? ANSWER_FOUND : ANSWER_LOST);
        assert_true(n >= 2 || from == n + 1);
        answer_put(b);
    }
    answer_end(&w, ANSWER_DONE, false);
    answer_put(a);
    rig_close(&r);
}

/* ---- the window ---- */

static void the_window_waits_cuts_and_slides(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a, *b;
    struct answer_party w, slow, fast;
    struct buf out;
    char big[1001];
    uint64_t from;
    memset(big, 'x', 1000);
    big[1000] = '\0';
    rig_open(&r, 0, 10000);
    buf_init(&out, 1 << 20);
    assert_int_equal(claim(&r, "k", &a), ANSWER_CLAIMED);
    begin(&r, a, &w);
    join(&r, a, &slow, 0);
    while (!answer_is_full(a)) {
        append(a, big);
    }
    turn(&r);
    r.n_news = 0;
    assert_int_equal(read_all(&slow, &out), ANSWER_WAIT);
    assert_true(out.len >= 9000);
    turn(&r);
    assert_true(r.n_news >= 1); /* there is room: the writer hears of it */
    assert_false(answer_is_full(a));
    assert_int_equal(claim(&r, "k", &b), ANSWER_OVERRUN);
    join(&r, a, &fast, slow.at);
    for (int i = 0; i < 20; i++) { /* one reads, the other has stopped */
        append(a, big);
        assert_int_equal(read_all(&fast, &out), ANSWER_WAIT);
        assert_false(answer_is_full(a));
    }
    assert_int_equal(read_all(&slow, &out), ANSWER_CUT);
    answer_leave(&slow);
    answer_leave(&fast);
    assert_true(answers_held(r.st) <= ANSWER_RESERVE_BYTES);
    char id[ANSWER_EVENT_ID_BYTES];
    answer_event_id(a, fast.at - 2, id); /* still in the window */
    assert_int_equal(claim_behind(&r, id, &b, &from), ANSWER_FOUND);
    answer_put(b);
    answer_event_id(a, 0, id);
    assert_int_equal(claim_behind(&r, id, &b, &from), ANSWER_LOST);
    answer_end(&w, ANSWER_DONE, false);
    answer_put(a);
    buf_deinit(&out);
    rig_close(&r);
}

static void all_together_are_bounded(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a[4];
    struct answer_party w[4];
    struct answer *more;
    rig_open(&r, 4 * ANSWER_RESERVE_BYTES, 0);
    for (int i = 0; i < 4; i++) {
        char key[2] = {(char)('a' + i), '\0'};
        assert_int_equal(claim(&r, key, &a[i]), ANSWER_CLAIMED);
        begin(&r, a[i], &w[i]);
    }
    assert_int_equal(claim(&r, "e", &more), ANSWER_NO_ROOM);
    assert_int_equal(claim(&r, "a", &more), ANSWER_FOUND); /* what is there is there */
    answer_put(more);
    for (int i = 0; i < 4; i++) {
        answer_end(&w[i], ANSWER_DONE, false);
        answer_put(a[i]);
    }
    assert_true(answers_held(r.st) < ANSWER_RESERVE_BYTES);
    assert_int_equal(claim(&r, "e", &more), ANSWER_CLAIMED);
    answer_write(&w[0], more, r.hub, NULL, NULL);
    answer_end(&w[0], ANSWER_DROPPED, true);
    enum answer_next why;
    assert_true(answer_is_broken(more, &why) && why == ANSWER_BROKEN);
    answer_put(more);
    rig_close(&r);
}

static void nobody_left_is_told(void **state)
{
    (void)state;
    struct rig r;
    struct answer *a;
    struct answer_party w, p;
    rig_open(&r, 0, 0);
    assert_int_equal(claim(&r, "k", &a), ANSWER_CLAIMED);
    begin(&r, a, &w);
    join(&r, a, &p, 0);
    turn(&r);
    assert_int_equal(r.n_news, 1); /* the reader's first look */
    assert_int_equal(answer_n_readers(a), 1);
    answer_leave(&p);
    turn(&r);
    assert_int_equal(r.n_news, 2);
    assert_int_equal(answer_n_readers(a), 0);
    answer_end(&w, ANSWER_DROPPED, true);
    answer_put(a);
    assert_int_equal(answers_held(r.st), 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_of_scope_and_key),
        cmocka_unit_test(ends_decide_what_is_kept),
        cmocka_unit_test(what_was_kept_goes_in_time),
        cmocka_unit_test(event_ids_are_taken_as_they_were_given),
        cmocka_unit_test(the_window_waits_cuts_and_slides),
        cmocka_unit_test(all_together_are_bounded),
        cmocka_unit_test(nobody_left_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
