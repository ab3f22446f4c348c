/* Hedging through the whole front door: a second server is asked when the first is slow. */
#include "10_module/gateway/rig.h"

#include "gateway/stages.h"
#include "obs/metric.h"

#define EVENTS "data: {\"a\":1}\n\ndata: {\"a\":2}\n\n"

/* ---- two servers, of which `local` is asked first ---- */

struct pair {
    struct rig rig;
    struct fake two;
    struct meta_object objects[4];
    char upstream[512];
    const char *model; /* that is asked for */
    double won[3];
};

static const char *const winners[] = {"first", "second", "none"};

static double hedges(int i)
{
    return metric_value(metric_with1(METRIC_HEDGES, str_from(winners[i])));
}

/* Asked for by the tests; "alone" has a version with one server and falls back to one without
 * hedging. */
#define MODEL_W                                                                                    \
    "{\"name\":\"w\",\"balance\":\"round_robin\",\"versions\":[{\"name\":\"1\","                   \
    "\"upstreams\":[\"local\",\"two\"],\"model\":\"m\",\"hedge_ms\":10}]}"
#define MODEL_ALONE                                                                                \
    "{\"name\":\"alone\",\"fallback\":[\"plain\"],\"versions\":[{\"name\":\"1\","                  \
    "\"upstreams\":[\"two\"],\"model\":\"m\",\"hedge_ms\":400}]}"
#define MODEL_PLAIN                                                                                \
    "{\"name\":\"plain\",\"versions\":[{\"name\":\"1\",\"upstreams\":[\"local\",\"two\"],"         \
    "\"model\":\"m\"}]}"

/* `more` of the second server; the first one's script and the second one's. */
static void pair_open(struct pair *p, const char *more, const char *first, const char *second)
{
    char where[ADDR_TEXT_BYTES];
    memset(p, 0, sizeof(*p));
    fake_open(&p->two);
    atomic_store(&p->two.script, second);
    snprintf(p->upstream, sizeof(p->upstream),
             "{\"name\":\"two\",\"url\":\"http://%s\",\"kind\":\"bud\"%s}",
             addr_format(&p->two.addr, where), more);
    p->objects[0] = (struct meta_object){
        .kind = STR_LIT("upstream"), .name = STR_LIT("two"), .body = str_from(p->upstream)};
    p->objects[1] = (struct meta_object){
        .kind = STR_LIT("model"), .name = STR_LIT("w"), .body = STR_LIT(MODEL_W)};
    p->objects[2] = (struct meta_object){
        .kind = STR_LIT("model"), .name = STR_LIT("alone"), .body = STR_LIT(MODEL_ALONE)};
    p->objects[3] = (struct meta_object){
        .kind = STR_LIT("model"), .name = STR_LIT("plain"), .body = STR_LIT(MODEL_PLAIN)};
    p->model = "w";
    p->rig.objects = p->objects;
    p->rig.n_objects = ARRAY_LEN(p->objects);
    rig_open_more(&p->rig, (struct gateway_conf){.ping_ms = 60000});
    atomic_store(&p->rig.fake.script, first);
    for (int i = 0; i < 3; i++) {
        p->won[i] = hedges(i);
    }
}

static void pair_close(struct pair *p)
{
    rig_close(&p->rig);
    fake_close(&p->two);
}

static int post(struct pair *p, const char *id, bool stream)
{
    char head[512], body[128];
    snprintf(head, sizeof(head), "%sx-request-id: %s\r\n", p->rig.auth, id);
    snprintf(body, sizeof(body),
             "{\"model\":\"%s\",\"prompt\":\"p\",\"user\":\"ok\",\"stream\":%s}", p->model,
             stream ? "true" : "false");
    return ask_send(&p->rig.addr, COMPLETE, head, str_from(body));
}

/* Both are at it. */
static void wait_for_both(struct pair *p, int n)
{
    wait_for(&p->rig.fake.n_posts, n);
    wait_for(&p->two.n_posts, n);
}

static void wait_for_end(struct fake *f)
{
    for (int i = 0; !atomic_load(&f->saw_end); i++) {
        assert_true(i < WAIT_ROUNDS);
        usleep(1000);
    }
}

static void wait_for_won(struct pair *p, int winner)
{
    for (int i = 0; hedges(winner) == p->won[winner]; i++) {
        assert_true(i < WAIT_ROUNDS);
        usleep(1000);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal((int)(hedges(i) - p->won[i]), i == winner ? 1 : 0);
    }
}

/* ---- what is told of it ---- */

struct look {
    struct pair *p;
    const char *id;
    struct buf out;
    bool found;
    atomic_bool done;
};

static void look_on_loop(void *ctx)
{
    struct look *l = ctx;
    l->found = gateway_explain(l->p->rig.gateway, str_from(l->id), &l->out);
    atomic_store(&l->done, true);
}

/* Rows come when the exchange has closed, which the client may see first. */
static void look(struct pair *p, const char *id, const char *says)
{
    struct look l = {.p = p, .id = id};
    buf_init(&l.out, 1 << 16);
    for (int i = 0; i < WAIT_ROUNDS && !l.found; i++) {
        atomic_store(&l.done, false);
        assert_int_equal(loop_post(p->rig.loop, look_on_loop, &l), RC_OK);
        while (!atomic_load(&l.done)) {
            usleep(1000);
        }
    }
    assert_true(l.found);
    if (strstr(l.out.ptr, says) == NULL) {
        fail_msg("'%s' does not say '%s'", l.out.ptr, says);
    }
    buf_deinit(&l.out);
}

static void want(int fd, int status, const char *part)
{
    struct answer a;
    ask_read(fd, &a);
    assert_int_equal(a.status, status);
    if (strstr(a.body.ptr, part) == NULL) {
        fail_msg("'%s' does not have '%s'", a.body.ptr, part);
    }
    answer_free(&a);
}

/* ---- who begins first ---- */

static void the_second_answers_when_the_first_is_silent(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second;
        bool stream;
    } cases[] = {{"mute", "stream", true}, {"mute-stream", "stream", true}, {"mute", "ok", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair p;
        pair_open(&p, "", cases[i].first, cases[i].second);
        int fd = post(&p, "a", cases[i].stream);
        want(fd, 200, cases[i].stream ? EVENTS : REPLY);
        wait_for_end(&p.rig.fake);
        wait_for_won(&p, 1);
        look(&p, "a", "\"name\":\"two\",\"hedged\":\"local\"");
        look(&p, "a", "\"attempts\":2");
        look(&p, "a", "\"broke\":\"another server was faster\"},{\"server\":\"two\"");
        look(&p, "a",
             cases[i].stream ? "\"prompt_tokens\":3,\"cached_tokens\":0,\"output_tokens\":2"
                             : "\"prompt_tokens\":3,\"cached_tokens\":0,\"output_tokens\":4");
        pair_close(&p);
    }
}

static void the_first_may_win_late(void **state)
{
    (void)state;
    static const struct {
        const char *first;
        bool stream;
    } cases[] = {{"told-stream", true}, {"told", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair p;
        pair_open(&p, "", cases[i].first, cases[i].stream ? "mute-stream" : "mute");
        int fd = post(&p, "a", cases[i].stream);
        wait_for_both(&p, 1);
        atomic_store(&p.rig.fake.told, true);
        want(fd, 200, cases[i].stream ? EVENTS : REPLY);
        wait_for_end(&p.two);
        wait_for_won(&p, 0);
        look(&p, "a", "\"name\":\"local\",\"hedged\":\"two\"");
        look(&p, "a", "\"prompt_tokens\":3,");
        pair_close(&p);
    }
}

/* Both say all they have while the loop is busy: it finds both at once, and takes one whole. */
static void hold_loop(void *ctx)
{
    struct pair *p = ctx;
    atomic_store(&p->rig.fake.told, true);
    atomic_store(&p->two.told, true);
    wait_for(&p->rig.fake.n_done, 1);
    wait_for(&p->two.n_done, 1);
}

static void both_at_once_are_not_mixed(void **state)
{
    (void)state;
    struct pair p;
    struct answer a;
    pair_open(&p, "", "told-stream", "told-stream");
    int fd = post(&p, "a", true);
    wait_for_both(&p, 1);
    assert_int_equal(loop_post(p.rig.loop, hold_loop, &p), RC_OK);
    ask_read(fd, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(answer_n_events(&a), 3);
    answer_free(&a);
    look(&p, "a", "\"output_tokens\":2");
    pair_close(&p);
}

/* The one that has begun is the one, whatever the other says then. */
static void who_has_begun_goes_on(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, "", "told-stream", "told-midway");
    int fd = post(&p, "a", true);
    wait_for_both(&p, 1);
    wait_for_won(&p, 1);
    atomic_store(&p.rig.fake.told, true);
    wait_for(&p.rig.fake.n_done, 1);
    atomic_store(&p.two.told, true);
    want(fd, 200, EVENTS "data: {\"a\":3}\n\n");
    look(&p, "a", "\"output_tokens\":3");
    pair_close(&p);
}

/* ---- what breaks ---- */

struct holds {
    struct pair *p;
    atomic_int n; /* -1 = not looked yet */
};

static void holds_on_loop(void *ctx)
{
    struct holds *h = ctx;
    const struct backends *all = &h->p->rig.gateway->backends;
    atomic_store(&h->n, (int)gw_backends_find(all, STR_LIT("two"))->outstanding);
}

/* The gateway has seen how the second one broke. */
static void wait_for_break(struct pair *p)
{
    struct holds h = {.p = p};
    wait_for(&p->two.n_done, 1);
    do {
        atomic_store(&h.n, -1);
        assert_int_equal(loop_post(p->rig.loop, holds_on_loop, &h), RC_OK);
        while (atomic_load(&h.n) < 0) {
            usleep(1000);
        }
    } while (atomic_load(&h.n) > 0);
}

static void one_that_breaks_leaves_it_to_the_other(void **state)
{
    (void)state;
    static const struct {
        const char *second, *broke;
        bool stream;
    } cases[] = {{"500", "it has failed", false},
                 {"500", "it has failed", true},
                 {"half-head", "", true},
                 {"empty-stream", "its stream ended too early", true},
                 {"error-first", "it has failed", true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair p;
        char broke[128];
        pair_open(&p, "", cases[i].stream ? "told-stream" : "told", cases[i].second);
        int fd = post(&p, "a", cases[i].stream);
        wait_for_break(&p);
        atomic_store(&p.rig.fake.told, true);
        want(fd, 200, cases[i].stream ? EVENTS : REPLY);
        snprintf(broke, sizeof(broke), "\"broke\":\"%s", cases[i].broke);
        look(&p, "a", broke);
        look(&p, "a", "\"attempts\":2");
        look(&p, "a", "\"name\":\"local\",\"hedged\":\"two\"");
        pair_close(&p);
    }
}

static void both_may_break(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, "", "told-half-head", "half-head");
    int fd = post(&p, "a", true);
    wait_for_break(&p);
    atomic_store(&p.rig.fake.told, true);
    want(fd, 502, "upstream"); /* after a third attempt, which is not hedged */
    look(&p, "a", "\"attempts\":3");
    wait_for_won(&p, 2);
    pair_close(&p);
}

static void who_goes_leaves_both(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, ",\"limits\":{\"concurrent\":1}", "mute", "mute");
    for (int i = 1; i <= 2; i++) { /* the second time there is room again */
        atomic_store(&p.rig.fake.saw_end, false);
        atomic_store(&p.two.saw_end, false);
        int fd = post(&p, i == 1 ? "a" : "b", true);
        wait_for_both(&p, i);
        close(fd);
        wait_for_end(&p.rig.fake);
        wait_for_end(&p.two);
        look(&p, i == 1 ? "a" : "b", "\"output_tokens\":0");
        look(&p, i == 1 ? "a" : "b", "\"estimated\":true");
    }
    pair_close(&p);
}

/* ---- what it may not do ---- */

enum { HEDGE_OVER_US = 100000 }; /* ten times hedge_ms: by then it would have been asked */

static void want_no_hedge(struct pair *p, const char *id)
{
    int n_first = atomic_load(&p->rig.fake.n_posts), n_two = atomic_load(&p->two.n_posts);
    atomic_store(&p->rig.fake.told, false);
    int fd = post(p, id, true);
    wait_for(&p->rig.fake.n_posts, n_first + 1);
    usleep(HEDGE_OVER_US);
    atomic_store(&p->rig.fake.told, true);
    want(fd, 200, EVENTS);
    assert_int_equal(atomic_load(&p->two.n_posts), n_two);
    look(p, id, "\"hedged\":\"\"");
}

static void spend_budget(void *ctx)
{
    while (gw_shared_retry_take(((struct pair *)ctx)->rig.gateway->shared)) {}
}

static void it_is_within_the_budget_for_retries(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, "", "told-stream", "stream");
    assert_int_equal(loop_post(p.rig.loop, spend_budget, &p), RC_OK);
    want_no_hedge(&p, "a");
    pair_close(&p);
}

static void it_is_within_the_limits_of_the_second(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, ",\"limits\":{\"requests_per_minute\":1}", "told-stream", "stream");
    int fd = post(&p, "a", true);
    want(fd, 200, EVENTS);
    wait_for_won(&p, 1);
    want_no_hedge(&p, "b");
    pair_close(&p);
}

/* The first attempt was to be hedged, the one that follows when it broke is not. */
static void a_fallback_without_it_is_not_hedged(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, "", "told-stream", "half-head");
    p.model = "alone";
    int fd = post(&p, "a", true);
    wait_for_both(&p, 1);
    usleep(6 * HEDGE_OVER_US); /* past the 400 ms of the first attempt */
    atomic_store(&p.rig.fake.told, true);
    want(fd, 200, EVENTS);
    assert_int_equal(atomic_load(&p.two.n_posts), 1);
    look(&p, "a", "\"hedged\":\"\"");
    pair_close(&p);
}

static void a_kept_answer_is_hedged_too(void **state)
{
    (void)state;
    struct pair p;
    struct answer a;
    char head[512];
    const struct str body =
        STR_LIT("{\"model\":\"w\",\"prompt\":\"p\",\"user\":\"ok\",\"stream\":true}");
    pair_open(&p, "", "mute", "stream");
    snprintf(head, sizeof(head), "%sidempotency-key: k\r\n", p.rig.auth);
    for (int i = 0; i < 2; i++) {
        ask_read(ask_send(&p.rig.addr, COMPLETE, head, body), &a);
        assert_int_equal(a.status, 200);
        assert_int_equal(answer_n_events(&a), 3);
        assert_int_equal(strstr(a.bytes.ptr, "idempotent-replayed: true") != NULL, i == 1);
        answer_free(&a);
    }
    assert_int_equal(atomic_load(&p.two.n_posts), 1);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_answers_when_the_first_is_silent),
        cmocka_unit_test(the_first_may_win_late),
        cmocka_unit_test(both_at_once_are_not_mixed),
        cmocka_unit_test(who_has_begun_goes_on),
        cmocka_unit_test(one_that_breaks_leaves_it_to_the_other),
        cmocka_unit_test(both_may_break),
        cmocka_unit_test(who_goes_leaves_both),
        cmocka_unit_test(it_is_within_the_budget_for_retries),
        cmocka_unit_test(it_is_within_the_limits_of_the_second),
        cmocka_unit_test(a_fallback_without_it_is_not_hedged),
        cmocka_unit_test(a_kept_answer_is_hedged_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
