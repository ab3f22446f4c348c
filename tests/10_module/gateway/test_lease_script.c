/* What Redis makes of leases, under a clock that the test moves: the script reads its time from a
 * key instead of from the server, all else is as in service. Gateways here are a limiter each, and
 * say their words when the test tells them to; each has a usage table of its own, or all have one.
 */
#include "../stores/redis_server.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "gateway/lease.h"
#include "gateway/lease_wire.h"
#include "net/loop.h"

#define NEW_YEAR 1767225600 /* 2026-01-01T00:00:00Z */
#define DAY_S    86400

enum { WORLD_GATES = 2, WORLD_TTL_S = LEASE_TTL_MS / 1000, PROMPT = 10, OUTPUT = 40 };

struct gate {
    struct limiter *limiter;
    char id[8];
};

struct world {
    struct redis_server server;
    struct loop *loop;
    struct redis *redis;
    char *text; /* of the script */
    uint32_t script;
    struct gate gates[WORLD_GATES];
    struct cat_limits limits;
    int64_t now_s;
    bool one_table;
    /* of the command under way */
    struct gate *gate;
    struct limit_leases *batch[LEASE_BATCH_MAX];
    struct lease_packed packed[LEASE_BATCH_MAX];
    uint32_t n;
    bool known, young;
};

static struct limit_time world_now(const struct world *w)
{
    return (struct limit_time){(uint64_t)(w->now_s - NEW_YEAR + 400 * DAY_S) * 1000000000u,
                               w->now_s};
}

static void world_on_ready(void *ctx, bool ready)
{
    if (ready) {
        loop_stop(((struct world *)ctx)->loop);
    }
}

static void world_on_set(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    assert_int_equal(rc, RC_OK);
    assert_int_not_equal(reply->type, REDIS_FAILED);
    loop_stop(((struct world *)ctx)->loop);
}

static void world_send(struct world *w, const struct str *words, uint32_t n)
{
    assert_int_equal(redis_send(w->redis, words, n, world_on_set, w), RC_OK);
    loop_run(w->loop);
}

static void world_set_clock(struct world *w, int64_t now_s)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)now_s);
    const struct str words[] = {STR_LIT("SET"), STR_LIT("clock"), str_from(text)};
    w->now_s = now_s;
    world_send(w, words, 3);
}

static void world_forget_all(struct world *w)
{
    const struct str words[] = {STR_LIT("FLUSHALL")};
    world_send(w, words, 1);
    world_set_clock(w, w->now_s + 1); /* the next epoch is another one */
}

/* lease_script with its first line changed. */
static char *world_script(void)
{
    static const char from[] = "redis.call('TIME')", to[] = "{redis.call('GET', 'clock'), 0}";
    const char *at = strstr(lease_script, from);
    size_t bytes = strlen(lease_script) + sizeof(to);
    char *text = mem_zalloc(bytes);
    assert_non_null(at);
    snprintf(text, bytes, "%.*s%s%s", (int)(at - lease_script), lease_script, to,
             at + strlen(from));
    return text;
}

static void world_open(struct world *w, struct cat_limits limits)
{
    memset(w, 0, sizeof(*w));
    w->limits = limits;
    redis_server_init(&w->server);
    redis_server_start(&w->server, NULL);
    assert_int_equal(loop_create(&w->loop, clock_system(), NULL), RC_OK);
    const struct redis_conf redis = {.url = str_from(w->server.url), .command_ms = 60000};
    assert_int_equal(redis_create(&w->redis, w->loop, &redis, NULL), RC_OK);
    redis_watch(w->redis, world_on_ready, w);
    w->text = world_script();
    w->script = redis_script_add(w->redis, w->text);
    loop_run(w->loop);
    assert_true(redis_is_ready(w->redis));
    for (int i = 0; i < WORLD_GATES; i++) {
        struct gate *g = &w->gates[i];
        snprintf(g->id, sizeof(g->id), "g%d", i);
        limiter_create(&g->limiter, (uint64_t)i + 1);
        g->limiter->mode = LIMIT_LEASED;
        g->limiter->away = LIMIT_SHUT;
        g->limiter->valid_ns = UINT64_MAX;
    }
    world_set_clock(w, NEW_YEAR + 40 * DAY_S + 3600);
}

static void world_close(struct world *w)
{
    for (int i = 0; i < WORLD_GATES; i++) {
        limiter_destroy(w->gates[i].limiter);
    }
    redis_destroy(w->redis);
    loop_destroy(w->loop);
    mem_free(w->text);
    redis_server_end(&w->server);
}

static void world_on_answer(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct world *w = ctx;
    assert_int_equal(rc, RC_OK);
    if (reply->type == REDIS_FAILED) {
        fail_msg("%.*s", STR(reply->text));
    }
    assert_true(lease_reply_ok(reply, w->n));
    w->known = lease_reply_knows(reply);
    w->young = lease_reply_is_young(reply);
    for (uint32_t i = 0; i < w->n; i++) {
        lease_unpack(w->batch[i], reply, i, world_now(w));
    }
    loop_stop(w->loop);
}

/* One word of a gateway, about all that it has in use, and about `asker` (may be NULL). */
static void gate_speak(struct world *w, struct gate *g, struct limit_leases *asker)
{
    char ttl[STR_U64_BYTES];
    struct str words[5 + 2 * LEASE_BATCH_MAX];
    const struct lease_pack_how how = {.now = world_now(w)};
    uint32_t n = 0;
    w->n = 0;
    LIST_EACH(&g->limiter->live, node)
    {
        w->batch[w->n++] = LIST_ENTRY(node, struct limit_leases, live);
    }
    if (asker != NULL && !list_is_linked(&asker->live)) {
        list_push_back(&g->limiter->live, &asker->live);
        g->limiter->n_live++;
        w->batch[w->n++] = asker;
    }
    words[n++] = STR_LIT("bud:gateways");
    for (uint32_t i = 0; i < w->n; i++) {
        lease_pack(w->batch[i], &how, &w->packed[i]);
        words[n++] = str_from(w->packed[i].key);
    }
    uint32_t n_keys = n;
    words[n++] = str_from(g->id);
    words[n++] = str_make(ttl, str_put_u64(ttl, LEASE_TTL_MS));
    words[n++] = w->one_table ? STR_LIT("table") : str_from(g->id);
    words[n++] = STR_LIT("0");
    for (uint32_t i = 0; i < w->n; i++) {
        words[n++] = str_make((const char *)w->packed[i].numbers, sizeof(w->packed[i].numbers));
    }
    assert_int_equal(redis_eval(w->redis, w->script, words, n, n_keys, world_on_answer, w), RC_OK);
    loop_run(w->loop);
}

/* Nothing was taken for a while: what lies idle is not worth keeping. */
static void gate_rest(struct gate *g)
{
    LIST_EACH(&g->limiter->live, node)
    {
        struct limit_leases *s = LIST_ENTRY(node, struct limit_leases, live);
        for (unsigned u = 0; u < LIMIT_UNITS; u++) {
            s->of[u].taken = s->of[u].taken_before = 0;
        }
    }
}

/* As [limit] and the keeper do it together: from what is idle, else Redis is asked once. */
static bool gate_take(struct world *w, struct gate *g, struct limit_ticket *t,
                      struct limit_result *r)
{
    const struct limit_subject s = {.name = STR_LIT("key:k"), .limits = &w->limits};
    const struct limit_ask ask = {PROMPT, OUTPUT, {.input = 1000000000, .output = 1000000000}};
    *t = (struct limit_ticket){0};
    if (limit_reserve(g->limiter, &s, 1, &ask, world_now(w), t, r)) {
        return true;
    }
    if (r->refused != LIMIT_ASK) {
        return false;
    }
    struct limit_leases *leases = limit_bucket_find(g->limiter, s.name)->leases;
    uint64_t need[LIMIT_UNITS];
    limit_lease_needs(&ask, OUTPUT, need);
    for (unsigned u = 0; u < LIMIT_UNITS; u++) {
        leases->need[u] = need[u];
    }
    gate_speak(w, g, leases);
    memset(leases->need, 0, sizeof(leases->need));
    return limit_reserve_all(g->limiter, &s, 1, &ask, world_now(w), true, t, r);
}

static void gate_settle(struct world *w, struct gate *g, struct limit_ticket *t, uint64_t tokens)
{
    limit_settle(g->limiter, t, tokens, (int64_t)tokens * 1000, world_now(w));
}

/* Takes and uses until it is refused; what was used. */
static uint64_t gate_spend(struct world *w, struct gate *g, enum limit_kind refused)
{
    struct limit_ticket t;
    struct limit_result r;
    uint64_t used = 0;
    while (gate_take(w, g, &t, &r)) {
        uint64_t tokens = PROMPT + r.output_tokens;
        gate_settle(w, g, &t, tokens);
        used += tokens;
        assert_true(used < 1000000);
    }
    assert_int_equal(r.refused, refused);
    gate_rest(g);
    gate_speak(w, g, NULL); /* tells the rest, gives back what lies idle */
    return used;
}

/* Redis leases nothing for a moment after its first word. */
static void world_age(struct world *w)
{
    gate_speak(w, &w->gates[0], NULL);
    assert_true(w->young);
    world_set_clock(w, w->now_s + 2);
    gate_speak(w, &w->gates[0], NULL);
    assert_false(w->young);
}

/* ---- the tests ---- */

static void a_silent_gateways_leases_expire(void **state)
{
    (void)state;
    struct world w;
    struct limit_ticket a[4], b;
    struct limit_result r;
    world_open(&w, (struct cat_limits){.concurrent = 4});
    world_age(&w);
    for (int i = 0; i < 4; i++) {
        assert_true(gate_take(&w, &w.gates[0], &a[i], &r));
    }
    assert_false(gate_take(&w, &w.gates[1], &b, &r));
    assert_int_equal(r.refused, LIMIT_CONCURRENT);
    world_set_clock(&w, w.now_s + WORLD_TTL_S);
    gate_speak(&w, &w.gates[0], NULL); /* alive */
    world_set_clock(&w, w.now_s + WORLD_TTL_S);
    assert_false(gate_take(&w, &w.gates[1], &b, &r));
    world_set_clock(&w, w.now_s + 1); /* not a word for longer than that */
    assert_true(gate_take(&w, &w.gates[1], &b, &r));
    gate_speak(&w, &w.gates[0], NULL);
    assert_false(w.known);
    for (int i = 0; i < 4; i++) {
        gate_settle(&w, &w.gates[0], &a[i], 0);
    }
    gate_settle(&w, &w.gates[1], &b, 0);
    world_close(&w);
}

static void what_lies_idle_is_given_back(void **state)
{
    (void)state;
    struct world w;
    struct limit_ticket t;
    struct limit_result r;
    world_open(&w, (struct cat_limits){.tokens_per_day = 1000});
    world_age(&w);
    struct gate *first = &w.gates[0], *second = &w.gates[1];
    for (int i = 0; i < 4; i++) {
        assert_true(gate_take(&w, first, &t, &r));
        gate_settle(&w, first, &t, 0);
    }
    gate_speak(&w, first, NULL); /* keeps what it may need again */
    const struct limit_lease *day =
        &limit_bucket_find(first->limiter, STR_LIT("key:k"))->leases->of[LIMIT_UNIT_DAY];
    uint64_t kept = (uint64_t)day->idle;
    assert_in_range(kept, PROMPT + OUTPUT, 1000 - 2 * (PROMPT + OUTPUT));
    assert_int_equal(gate_spend(&w, second, LIMIT_DAY), 1000 - kept);
    gate_rest(first);
    gate_speak(&w, first, NULL);
    assert_int_equal((uint64_t)day->idle, 0);
    assert_int_equal(gate_spend(&w, second, LIMIT_DAY), kept);
    assert_false(gate_take(&w, first, &t, &r));
    assert_int_equal(r.refused, LIMIT_DAY);
    world_close(&w);
}

static void days_and_months_are_those_of_utc(void **state)
{
    (void)state;
    struct world w;
    const int64_t midnight = NEW_YEAR + 41 * DAY_S;
    world_open(&w, (struct cat_limits){.tokens_per_day = 1000, .money_per_month = 2500000});
    world_set_clock(&w, midnight - 10);
    world_age(&w);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_DAY), 1000);
    world_set_clock(&w, midnight - 1);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_DAY), 0);
    world_set_clock(&w, midnight);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_DAY), 1000);
    world_set_clock(&w, midnight + DAY_S);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_MONEY), 500); /* 2500 thousand in all */
    const int64_t march = NEW_YEAR + 59 * DAY_S;
    world_set_clock(&w, march - 1);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_MONEY), 0);
    world_set_clock(&w, march);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_DAY), 1000);
    world_close(&w);
}

/* Two requests under way over midnight, and units that lay idle: the new day has all of them. */
static void a_day_ends_while_requests_run(void **state)
{
    (void)state;
    struct world w;
    struct limit_ticket a, b;
    struct limit_result r;
    const int64_t midnight = NEW_YEAR + 41 * DAY_S;
    world_open(&w, (struct cat_limits){.tokens_per_day = 1000});
    world_set_clock(&w, midnight - 10);
    world_age(&w);
    assert_true(gate_take(&w, &w.gates[0], &a, &r));
    assert_true(gate_take(&w, &w.gates[1], &b, &r));
    world_set_clock(&w, midnight + 1);
    gate_settle(&w, &w.gates[0], &a, 50);
    gate_settle(&w, &w.gates[1], &b, 50);
    gate_rest(&w.gates[0]);
    gate_rest(&w.gates[1]);
    gate_speak(&w, &w.gates[0], NULL);
    gate_speak(&w, &w.gates[1], NULL);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_DAY), 900);
    world_close(&w);
}

static void a_clock_set_back_begins_nothing_anew(void **state)
{
    (void)state;
    struct world w;
    struct limit_ticket held[3], t;
    struct limit_result r;
    const int64_t midnight = NEW_YEAR + 59 * DAY_S; /* 1 March */
    world_open(&w, (struct cat_limits){.tokens_per_day = 1000, .money_per_month = 1500000});
    world_set_clock(&w, midnight + 5);
    world_age(&w);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_DAY), 1000);
    world_set_clock(&w, midnight - 5);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_DAY), 0);
    assert_false(w.young);
    world_set_clock(&w, midnight - 3 * DAY_S);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_DAY), 0);
    world_set_clock(&w, midnight - 2 * DAY_S);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_MONEY), 500); /* of the month's 1500 */
    world_set_clock(&w, midnight + DAY_S);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_DAY), 1000);

    /* A gateway whose last word lies in the future is alive, and dead in time. */
    w.limits = (struct cat_limits){.concurrent = 3};
    for (int i = 0; i < 3; i++) {
        assert_true(gate_take(&w, &w.gates[0], &held[i], &r));
    }
    world_set_clock(&w, w.now_s - 10 * DAY_S);
    assert_false(gate_take(&w, &w.gates[1], &t, &r));
    world_set_clock(&w, w.now_s + WORLD_TTL_S + 1);
    assert_true(gate_take(&w, &w.gates[1], &t, &r));
    gate_settle(&w, &w.gates[1], &t, 0);
    for (int i = 0; i < 3; i++) {
        gate_settle(&w, &w.gates[0], &held[i], 0);
    }
    world_close(&w);
}

/* What was used is told again, once; nothing is leased before every gateway had its say. */
static void an_emptied_redis_learns_what_was_used(void **state)
{
    (void)state;
    struct world w;
    struct limit_ticket t;
    struct limit_result r;
    world_open(&w, (struct cat_limits){.tokens_per_day = 1000});
    world_age(&w);
    for (int i = 0; i < 12; i++) {
        assert_true(gate_take(&w, &w.gates[0], &t, &r));
        gate_settle(&w, &w.gates[0], &t, 50);
    }
    gate_rest(&w.gates[0]);
    gate_speak(&w, &w.gates[0], NULL);
    world_forget_all(&w);
    assert_false(gate_take(&w, &w.gates[1], &t, &r)); /* not yet */
    assert_true(w.young);
    assert_false(w.known);
    struct limit_leases *s = limit_bucket_find(w.gates[0].limiter, STR_LIT("key:k"))->leases;
    gate_speak(&w, &w.gates[0], s);
    assert_false(w.known);
    world_set_clock(&w, w.now_s + 2);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_DAY), 400);
    world_close(&w);
}

static void gate_use(struct world *w, struct gate *g, uint64_t tokens)
{
    struct limit_ticket t;
    struct limit_result r;
    for (uint64_t used = 0; used < tokens; used += PROMPT + OUTPUT) {
        assert_true(gate_take(w, g, &t, &r));
        gate_settle(w, g, &t, PROMPT + OUTPUT);
    }
    gate_rest(g);
    gate_speak(w, g, NULL);
}

/* A gateway that has just learned that Redis lost everything tells all. */
static void gate_tell_anew(struct world *w, struct gate *g)
{
    struct limit_leases *s = limit_bucket_find(g->limiter, STR_LIT("key:k"))->leases;
    gate_speak(w, g, s);
    assert_false(w->known);
}

/* Gateways of one usage table: what each has used since it began is not lost, nor counted twice. */
static void an_emptied_redis_learns_it_of_all(void **state)
{
    (void)state;
    struct world w;
    const struct limit_time load = {.mono_ns = 1, .wall_s = NEW_YEAR + 40 * DAY_S};
    world_open(&w, (struct cat_limits){.tokens_per_day = 2000, .money_per_month = 100000000});
    w.one_table = true;
    for (int i = 0; i < WORLD_GATES; i++) {
        assert_true(limit_load(w.gates[i].limiter, STR_LIT("key:k"), 1000, 0, load));
    }
    world_age(&w);
    gate_use(&w, &w.gates[0], 300);
    gate_use(&w, &w.gates[1], 600);
    for (int i = 0; i < 2; i++) { /* and once more, while little is left */
        world_forget_all(&w);
        gate_tell_anew(&w, &w.gates[i]);
        assert_true(w.young);
        gate_tell_anew(&w, &w.gates[1 - i]);
        world_set_clock(&w, w.now_s + 2);
        gate_use(&w, &w.gates[i], 50);
    }
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_DAY), 0);
    world_close(&w);
}

static void an_emptied_redis_learns_of_the_dead(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, (struct cat_limits){.tokens_per_day = 1000, .money_per_month = 1500000});
    w.one_table = true;
    world_age(&w);
    gate_use(&w, &w.gates[1], 600);
    gate_use(&w, &w.gates[0], 300);
    world_forget_all(&w);
    gate_tell_anew(&w, &w.gates[0]); /* the other one says nothing any more */
    world_set_clock(&w, w.now_s + 2);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_DAY), 100);
    world_forget_all(&w);
    world_set_clock(&w, w.now_s + DAY_S); /* what was heard of yesterday is of this month */
    gate_tell_anew(&w, &w.gates[0]);
    world_set_clock(&w, w.now_s + 2);
    assert_int_equal(gate_spend(&w, &w.gates[0], LIMIT_MONEY), 500);
    world_close(&w);
}

static void an_emptied_redis_learns_of_the_minute(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, (struct cat_limits){.tokens_per_minute = 600});
    w.one_table = true;
    world_age(&w);
    gate_use(&w, &w.gates[0], 300);
    gate_use(&w, &w.gates[1], 300);
    world_set_clock(&w, w.now_s + 30); /* 31 s later: half of it has drained */
    world_forget_all(&w);
    gate_tell_anew(&w, &w.gates[0]);
    gate_tell_anew(&w, &w.gates[1]);
    world_set_clock(&w, w.now_s + 2);
    assert_in_range(gate_spend(&w, &w.gates[1], LIMIT_TOKENS), 320, 330);
    world_close(&w);
}

/* ---- what comes back to a minute ---- */

enum { MINUTE_PUTS = 400, MINUTE_RUNNING = 6 };

struct minute_put {
    struct limit_ticket ticket;
    struct gate *gate;
    int64_t at_s;
    uint64_t tokens; /* set aside, then used */
};

/* A bucket into which only what was used was put, when it was set aside, never runs over. */
static void assert_minute_holds(const struct minute_put *puts, uint32_t n, uint64_t limit)
{
    uint64_t level = 0; /* in sixtieths */
    for (uint32_t i = 0; i < n; i++) {
        uint64_t drained = i > 0 ? (uint64_t)(puts[i].at_s - puts[i - 1].at_s) * limit : 0;
        level -= MIN(level, drained);
        level += puts[i].tokens * 60;
        assert_true(level <= limit * 60);
    }
}

static void minute_settle(struct world *w, struct minute_put *running[], uint32_t *n, uint32_t i,
                          uint64_t tokens)
{
    gate_settle(w, running[i]->gate, &running[i]->ticket, tokens);
    running[i]->tokens = tokens;
    running[i] = running[--*n];
}

/* None is silent for so long that it counts as dead. */
static void minute_speak(struct world *w)
{
    for (int i = 0; i < WORLD_GATES; i++) {
        gate_rest(&w->gates[i]);
        gate_speak(w, &w->gates[i], NULL);
    }
}

/* Requests that use little of what is set aside, at two gateways, while the bucket is now full and
 * now empty. */
static void what_drained_does_not_come_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        static struct minute_put puts[MINUTE_PUTS];
        struct minute_put *running[MINUTE_RUNNING];
        struct world w;
        struct rng rng;
        struct limit_result r;
        uint32_t n = 0, n_running = 0;
        rng_init(&rng, seed);
        world_open(&w, (struct cat_limits){.tokens_per_minute = 200 + 60 * seed});
        world_age(&w);
        while (n < MINUTE_PUTS) {
            struct gate *g = &w.gates[rng_below(&rng, WORLD_GATES)];
            if (rng_below(&rng, 3) == 0) {
                world_set_clock(&w, w.now_s + rng_below(&rng, 6));
                minute_speak(&w);
            } else if (n_running > 0 && rng_below(&rng, 2) == 0) {
                uint32_t i = rng_below(&rng, n_running);
                minute_settle(&w, running, &n_running, i,
                              rng_below(&rng, (uint32_t)running[i]->tokens + 1));
            } else if (n_running < MINUTE_RUNNING) {
                struct minute_put *p = &puts[n];
                *p = (struct minute_put){.gate = g, .at_s = w.now_s};
                if (gate_take(&w, g, &p->ticket, &r)) {
                    p->tokens = PROMPT + r.output_tokens;
                    running[n_running++] = p;
                    n++;
                } else {
                    world_set_clock(&w, w.now_s + 1);
                    minute_speak(&w);
                }
            }
        }
        while (n_running > 0) {
            minute_settle(&w, running, &n_running, 0, 0);
        }
        assert_minute_holds(puts, n, w.limits.tokens_per_minute);
        world_close(&w);
    }
}

/* Given back here in time, told to Redis when it had drained and others had filled the bucket. */
static void what_drained_before_it_was_told_does_not_come_back(void **state)
{
    (void)state;
    struct world w;
    struct limit_ticket t;
    struct limit_result r;
    world_open(&w, (struct cat_limits){.tokens_per_minute = 600});
    world_age(&w);
    assert_true(gate_take(&w, &w.gates[0], &t, &r));
    gate_rest(&w.gates[0]);
    gate_speak(&w, &w.gates[0], NULL);
    gate_settle(&w, &w.gates[0], &t, 0);
    world_set_clock(&w, w.now_s + 5);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_TOKENS), 600);
    gate_rest(&w.gates[0]);
    gate_speak(&w, &w.gates[0], NULL);
    assert_int_equal(gate_spend(&w, &w.gates[1], LIMIT_TOKENS), 0);
    world_close(&w);
}

/* A minute drains 4,000 a second; two hundred requests, which run for two seconds, lose no more to
 * that than one does. */
static void many_at_once_give_back_nearly_all(void **state)
{
    (void)state;
    enum { N = 200, ROUNDS = 4 };
    struct world w;
    static struct limit_ticket t[N];
    struct limit_result r;
    world_open(&w, (struct cat_limits){.tokens_per_minute = 240000});
    world_age(&w);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            assert_true(gate_take(&w, &w.gates[0], &t[i], &r));
        }
        gate_speak(&w, &w.gates[0], NULL);
        world_set_clock(&w, w.now_s + 2);
        for (int i = 0; i < N; i++) {
            gate_settle(&w, &w.gates[0], &t[i], 1);
        }
        minute_speak(&w);
    }
    assert_in_range(gate_spend(&w, &w.gates[1], LIMIT_TOKENS), 240000 - N, 240000);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_gateways_leases_expire),
        cmocka_unit_test(what_lies_idle_is_given_back),
        cmocka_unit_test(days_and_months_are_those_of_utc),
        cmocka_unit_test(a_day_ends_while_requests_run),
        cmocka_unit_test(a_clock_set_back_begins_nothing_anew),
        cmocka_unit_test(an_emptied_redis_learns_what_was_used),
        cmocka_unit_test(an_emptied_redis_learns_it_of_all),
        cmocka_unit_test(an_emptied_redis_learns_of_the_dead),
        cmocka_unit_test(an_emptied_redis_learns_of_the_minute),
        cmocka_unit_test(what_drained_does_not_come_back),
        cmocka_unit_test(what_drained_before_it_was_told_does_not_come_back),
        cmocka_unit_test(many_at_once_give_back_nearly_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
