/* Limits across gateways: limiters on loops of their own lease from one real Redis server. */
#include "../stores/redis_server.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"
#include "gateway/lease.h"
#include "net/loop.h"

enum { GATES_MAX = 3, CLIENTS = 64, PROMPT = 10, OUTPUT = 40, PATIENCE_MS = 60000 };

struct gate;

/* What all clients of a test share. */
struct world {
    struct redis_server server;
    struct cat_limits limits;
    struct cat_price price;
    uint64_t ttl_ms, n_gateways;
    bool open;
    int refused_is_enough; /* a client ends at so many refusals */
    bool needs_redis;      /* of which only those count that come while Redis is there */
    atomic_uint_fast64_t tokens, requests, cost;
    atomic_int running, running_most, n_away, n_refused, n_over;
    struct gate *group; /* those that run now: all until the last one's clients have ended */
    int n_group;
    atomic_int n_busy;
};

struct client {
    struct gate *gate;
    struct lease_wait wait;
    struct limit_subject subjects[2];
    struct limit_ask ask;
    struct limit_ticket ticket;
    struct limit_result result;
    struct loop_timer timer;
    struct rng rng;
    int n_refused;
    bool ended, holds;
};

/* One gateway: a loop's thread, a limiter, a keeper. */
struct gate {
    struct world *world;
    struct loop *loop;
    struct redis *redis;
    struct limiter *limiter;
    struct lease_keeper *keeper;
    struct lease_door *door;
    struct thread thread;
    struct client clients[CLIENTS];
    int n_clients, n_left;
    struct loop_timer patience;
    uint64_t work_ms; /* a request takes at most; 0 = one turn */
    bool hold;        /* granted requests are never settled */
    bool left;
    char store[16];
};

static struct limit_time gate_now(struct gate *g)
{
    const struct clock *c = loop_clock(g->loop);
    return (struct limit_time){clock_mono_ns(c), clock_wall_s(c)};
}

static void client_begin(void *ctx);

static void client_end(struct client *c)
{
    struct world *w = c->gate->world;
    c->ended = true;
    if (--c->gate->n_left == 0 && atomic_fetch_sub(&w->n_busy, 1) == 1) {
        for (int i = 0; i < w->n_group; i++) {
            loop_stop(w->group[i].loop);
        }
    }
}

static void client_settle(void *ctx)
{
    struct client *c = ctx;
    struct world *w = c->gate->world;
    uint64_t tokens = PROMPT + rng_u64(&c->rng) % (c->result.output_tokens + 1);
    int64_t cost = limit_cost(&w->price, PROMPT, 0, tokens - PROMPT);
    atomic_fetch_add(&w->tokens, tokens);
    atomic_fetch_add(&w->cost, (uint64_t)cost);
    atomic_fetch_sub(&w->running, 1);
    limit_settle(c->gate->limiter, &c->ticket, tokens, cost, gate_now(c->gate));
    loop_timer_init(&c->timer, c->gate->loop, client_begin, c);
    loop_timer_start(&c->timer, 0);
}

static void client_decided(void *ctx, bool granted)
{
    struct client *c = ctx;
    struct world *w = c->gate->world;
    if (!granted) {
        atomic_fetch_add(c->result.refused == LIMIT_AWAY ? &w->n_away : &w->n_refused, 1);
        c->n_refused += !w->needs_redis || redis_is_ready(c->gate->redis) ? 1 : 0;
        if (c->n_refused >= w->refused_is_enough) {
            client_end(c);
            return;
        }
        loop_timer_init(&c->timer, c->gate->loop, client_begin, c);
        loop_timer_start(&c->timer, 5);
        return;
    }
    atomic_fetch_add(&w->requests, 1);
    int running = atomic_fetch_add(&w->running, 1) + 1;
    int most = atomic_load(&w->running_most);
    while (running > most && !atomic_compare_exchange_weak(&w->running_most, &most, running)) {}
    if (c->gate->hold) {
        c->holds = true;
        client_end(c);
        return;
    }
    loop_timer_init(&c->timer, c->gate->loop, client_settle, c);
    loop_timer_start(&c->timer, c->gate->work_ms > 0 ? rng_u64(&c->rng) % c->gate->work_ms : 0);
}

static void client_begin(void *ctx)
{
    struct client *c = ctx;
    c->ask = (struct limit_ask){PROMPT, OUTPUT, c->gate->world->price};
    if (limit_reserve(c->gate->limiter, c->subjects, 2, &c->ask, gate_now(c->gate), &c->ticket,
                      &c->result)) {
        client_decided(c, true);
    } else if (c->result.refused == LIMIT_ASK) {
        c->wait.done = client_decided;
        c->wait.ctx = c;
        lease_wait_start(&c->wait, c->gate->door, c->subjects, 2, &c->ask, &c->ticket, &c->result);
    } else {
        client_decided(c, false);
    }
}

static void gate_out_of_patience(void *ctx)
{
    UNUSED(ctx);
    fail_msg("clients do not end");
}

static void gate_open(struct gate *g, struct world *w, int idx)
{
    memset(g, 0, sizeof(*g));
    g->world = w;
    snprintf(g->store, sizeof(g->store), "s%d", idx);
    assert_int_equal(loop_create(&g->loop, clock_system(), NULL), RC_OK);
    const struct redis_conf redis = {.url = str_from(w->server.url), .command_ms = 300};
    assert_int_equal(redis_create(&g->redis, g->loop, &redis, NULL), RC_OK);
    limiter_create(&g->limiter, (uint64_t)idx + 1);
    const struct lease_conf conf = {.redis = g->redis,
                                    .limiter = g->limiter,
                                    .open = w->open,
                                    .n_gateways = w->n_gateways,
                                    .ttl_ms = w->ttl_ms,
                                    .store = str_from(g->store)};
    assert_int_equal(lease_keeper_create(&g->keeper, g->loop, &conf, NULL), RC_OK);
    assert_int_equal(lease_door_open(&g->door, g->keeper, g->loop, NULL), RC_OK);
    loop_timer_init(&g->patience, g->loop, gate_out_of_patience, g);
}

static void gate_run(void *arg)
{
    static const struct cat_limits none;
    struct gate *g = arg;
    loop_timer_start(&g->patience, PATIENCE_MS);
    g->n_left = g->n_clients;
    for (int i = 0; i < g->n_clients; i++) {
        struct client *c = &g->clients[i];
        *c = (struct client){.gate = g};
        c->subjects[0] = (struct limit_subject){STR_LIT("key:k"), &g->world->limits, false};
        c->subjects[1] = (struct limit_subject){STR_LIT("model:m"), &none, false};
        rng_init(&c->rng, (uint64_t)i + 1);
        client_begin(c);
    }
    loop_run(g->loop);
    loop_timer_stop(&g->patience);
}

/* Runs n gates until all of their clients have ended. */
static void gates_run(struct gate *gates, int n, int n_clients)
{
    struct world *w = gates[0].world;
    w->group = gates;
    w->n_group = n;
    atomic_store(&w->n_busy, n);
    for (int i = 0; i < n; i++) {
        gates[i].n_clients = n_clients;
        assert_int_equal(thread_start(&gates[i].thread, "gate", -1, gate_run, &gates[i]), RC_OK);
    }
    for (int i = 0; i < n; i++) {
        thread_join(&gates[i].thread);
    }
}

static void gate_left(void *ctx)
{
    struct gate *g = ctx;
    g->left = true;
    loop_stop(g->loop);
}

/* politely: tells what was used; else as if it was killed. */
static void gate_close(struct gate *g, bool politely)
{
    if (politely) {
        loop_timer_start(&g->patience, PATIENCE_MS);
        lease_keeper_leave(g->keeper, gate_left, g);
        if (!g->left) {
            loop_run(g->loop);
        }
        loop_timer_stop(&g->patience);
    }
    lease_door_close(g->door);
    for (int i = 0; i < g->n_clients; i++) {
        loop_timer_stop(&g->clients[i].timer);
        limit_settle(g->limiter, &g->clients[i].ticket, 0, 0, gate_now(g));
    }
    lease_door_destroy(g->door);
    lease_keeper_destroy(g->keeper);
    redis_destroy(g->redis);
    loop_destroy(g->loop);
    limiter_destroy(g->limiter);
}

static void world_open(struct world *w)
{
    redis_server_init(&w->server);
    redis_server_start(&w->server, NULL);
    w->refused_is_enough = 3;
    w->price = (struct cat_price){.input = 1000000000, .output = 2000000000};
}

/* 64 clients at `n` gates until each was refused thrice. */
static double world_spend(struct world *w, int n)
{
    struct gate *gates = mem_zalloc(sizeof(*gates) * GATES_MAX);
    uint64_t began_ns = clock_mono_ns(clock_system());
    for (int i = 0; i < n; i++) {
        gate_open(&gates[i], w, i);
    }
    gates_run(gates, n, CLIENTS / n);
    double elapsed_s = (double)(clock_mono_ns(clock_system()) - began_ns) / 1e9;
    for (int i = 0; i < n; i++) {
        gate_close(&gates[i], true);
    }
    mem_free(gates);
    return elapsed_s;
}

static void check_spent(const char *what, double used, double limit, double drained)
{
    printf("%s: used %.0f of %.0f, drained %.0f\n", what, used, limit, drained);
    assert_true(used <= limit + drained);
    assert_true(used >= 0.95 * limit);
}

static void spend(struct cat_limits limits, int n_gates)
{
    struct world w = {.limits = limits};
    world_open(&w);
    double s = world_spend(&w, n_gates);
    if (limits.tokens_per_day != 0) {
        check_spent("day", (double)w.tokens, (double)limits.tokens_per_day, 0);
    }
    if (limits.tokens_per_minute != 0) {
        double n = (double)limits.tokens_per_minute;
        check_spent("tokens", (double)w.tokens, n, n * s / 60);
    }
    if (limits.requests_per_minute != 0) {
        double n = (double)limits.requests_per_minute;
        check_spent("requests", (double)w.requests, n, n * s / 60);
    }
    if (limits.money_per_month != 0) {
        check_spent("money", (double)w.cost, (double)limits.money_per_month, 0);
    }
    redis_server_end(&w.server);
}

static void test_budgets_of_one_gateway(void **state)
{
    UNUSED(state);
    spend((struct cat_limits){.tokens_per_day = 50000}, 1);
    spend((struct cat_limits){.tokens_per_minute = 50000}, 1);
    spend((struct cat_limits){.requests_per_minute = 1000}, 1);
    spend((struct cat_limits){.money_per_month = 50000000}, 1);
}

static void test_budgets_of_gateways_together(void **state)
{
    UNUSED(state);
    for (int n = 2; n <= GATES_MAX; n++) {
        spend((struct cat_limits){.tokens_per_day = 50000}, n);
        spend((struct cat_limits){.tokens_per_minute = 50000}, n);
        spend((struct cat_limits){.requests_per_minute = 1000}, n);
        spend((struct cat_limits){.money_per_month = 50000000}, n);
    }
}

static void test_slots_are_shared(void **state)
{
    struct world w = {.limits = {.concurrent = 7, .requests_per_minute = 300}};
    struct gate *gates = mem_zalloc(sizeof(*gates) * GATES_MAX);
    UNUSED(state);
    world_open(&w);
    w.refused_is_enough = 100;
    for (int i = 0; i < 2; i++) {
        gate_open(&gates[i], &w, i);
        gates[i].work_ms = 4;
    }
    gates_run(gates, 2, 16);
    gate_close(&gates[0], true);
    gate_close(&gates[1], true);
    printf("slots: at most %d at once, %lu requests\n", atomic_load(&w.running_most),
           (unsigned long)w.requests);
    assert_true(atomic_load(&w.running_most) <= 7);
    assert_true(atomic_load(&w.running_most) >= 3);
    assert_true(w.requests >= 100);
    mem_free(gates);
    redis_server_end(&w.server);
}

static void test_a_dead_gateway_gives_back(void **state)
{
    struct world w = {.limits = {.concurrent = 4}, .ttl_ms = 600};
    struct gate *gates = mem_zalloc(sizeof(*gates) * GATES_MAX);
    UNUSED(state);
    world_open(&w);
    gate_open(&gates[0], &w, 0);
    gates[0].hold = true;
    gates_run(gates, 1, 4); /* its loop stands still: as if it was killed */
    assert_int_equal(w.requests, 4);
    atomic_store(&w.running, 0);
    gate_open(&gates[1], &w, 1);
    gate_open(&gates[2], &w, 2);
    w.refused_is_enough = 1000000;
    gates[1].hold = gates[2].hold = true;
    gates_run(gates + 1, 2, 2); /* until all four have a slot */
    assert_int_equal(w.requests, 8);
    for (int i = 0; i < 3; i++) {
        gate_close(&gates[i], false);
    }
    mem_free(gates);
    redis_server_end(&w.server);
}

static void test_what_was_used_stays(void **state)
{
    struct world w = {.limits = {.tokens_per_day = 20000}};
    UNUSED(state);
    world_open(&w);
    (void)world_spend(&w, 1);
    uint64_t first = w.tokens;
    assert_true(first >= 19000 && first <= 20000);
    (void)world_spend(&w, 2); /* other gateways, the same day */
    assert_true(w.tokens <= 20000);
    redis_server_end(&w.server);
}

/* What a store knows is counted in once, also after Redis has lost everything. */
static void test_an_empty_redis_is_told(void **state)
{
    struct world w = {.limits = {.tokens_per_day = 20000}};
    struct gate *gates = mem_zalloc(sizeof(*gates) * GATES_MAX);
    UNUSED(state);
    world_open(&w);
    for (int i = 0; i < 2; i++) {
        gate_open(&gates[i], &w, i);
        struct limit_time now = gate_now(&gates[i]);
        assert_true(limit_load(gates[i].limiter, STR_LIT("key:k"), 5000, 0, now));
    }
    gates_run(gates, 2, 16);
    printf("first: %lu\n", (unsigned long)w.tokens);
    assert_true(w.tokens <= 10000 && w.tokens >= 9500);
    redis_server_kill(&w.server);
    redis_server_start(&w.server, NULL);
    gates_run(gates, 2, 16);
    for (int i = 0; i < 2; i++) {
        gate_close(&gates[i], true);
    }
    printf("then: %lu\n", (unsigned long)w.tokens);
    assert_true(w.tokens <= 10000);
    mem_free(gates);
    redis_server_end(&w.server);
}

static void away(bool open, bool stopped)
{
    struct world w = {
        .limits = {.tokens_per_day = 30000}, .open = open, .n_gateways = 3, .ttl_ms = 10000};
    struct gate *gates = mem_zalloc(sizeof(*gates) * GATES_MAX);
    world_open(&w);
    for (int i = 0; i < 2; i++) {
        gate_open(&gates[i], &w, i);
    }
    if (stopped) {
        kill(w.server.pid, SIGSTOP);
    } else {
        redis_server_kill(&w.server);
    }
    gates_run(gates, 2, 16);
    printf("away: %lu tokens, %d away, %d refused\n", (unsigned long)w.tokens,
           atomic_load(&w.n_away), atomic_load(&w.n_refused));
    if (open) { /* a third of the limit for each of the two */
        assert_int_equal(atomic_load(&w.n_away), 0);
        assert_true(w.tokens <= 20000 && w.tokens >= 19000);
    } else {
        assert_int_equal(w.tokens, 0);
        assert_int_equal(atomic_load(&w.n_away), 2 * 16 * 3);
    }
    if (stopped) {
        kill(w.server.pid, SIGCONT);
    } else {
        redis_server_start(&w.server, NULL);
    }
    w.needs_redis = true;
    w.refused_is_enough = 100; /* more than those before the first word that is answered */
    gates_run(gates, 2, 16);
    for (int i = 0; i < 2; i++) {
        gate_close(&gates[i], true);
    }
    printf("back: %lu tokens\n", (unsigned long)w.tokens);
    assert_true(w.tokens <= 30000 && w.tokens >= 28500);
    mem_free(gates);
    redis_server_end(&w.server);
}

static void test_redis_away_closed(void **state)
{
    UNUSED(state);
    away(false, false);
    away(false, true);
}

static void test_redis_away_open(void **state)
{
    UNUSED(state);
    away(true, false);
    away(true, true);
}

static void server_goes_on(void *ctx)
{
    struct world *w = ctx;
    kill(w->server.pid, SIGCONT);
}

/* A goodbye whose answer comes only after the next tick is a goodbye all the same. */
static void test_a_slow_goodbye_ends(void **state)
{
    struct world w = {.limits = {.tokens_per_day = 20000}};
    struct gate *g = mem_zalloc(sizeof(*g));
    struct loop_timer wait;
    UNUSED(state);
    world_open(&w);
    gate_open(g, &w, 0);
    gates_run(g, 1, 4);
    loop_timer_init(&wait, g->loop, server_goes_on, &w);
    loop_timer_start(&wait, 2 * LEASE_TICK_MS);
    kill(w.server.pid, SIGSTOP);
    gate_close(g, true);
    mem_free(g);
    redis_server_end(&w.server);
}

static void test_waits_can_be_cancelled(void **state)
{
    struct world w = {.limits = {.concurrent = 1}};
    struct gate *g = mem_zalloc(sizeof(*g));
    UNUSED(state);
    world_open(&w);
    gate_open(g, &w, 0);
    struct client *c = &g->clients[0];
    static const struct cat_limits none;
    for (int i = 0; i < 20; i++) {
        *c = (struct client){.gate = g, .ask = {PROMPT, OUTPUT, w.price}};
        c->subjects[0] = (struct limit_subject){STR_LIT("key:k"), &w.limits, false};
        c->subjects[1] = (struct limit_subject){STR_LIT("model:m"), &none, false};
        if (limit_reserve(g->limiter, c->subjects, 2, &c->ask, gate_now(g), &c->ticket,
                          &c->result)) {
            limit_settle(g->limiter, &c->ticket, 0, 0, gate_now(g));
            continue;
        }
        assert_int_equal(c->result.refused, LIMIT_ASK);
        c->wait.done = client_decided;
        c->wait.ctx = c;
        lease_wait_start(&c->wait, g->door, c->subjects, 2, &c->ask, &c->ticket, &c->result);
        lease_wait_cancel(&c->wait);
        lease_wait_cancel(&c->wait);
    }
    g->hold = true;
    gates_run(g, 1, 1); /* the one slot is free */
    assert_int_equal(w.requests, 1);
    gate_close(g, false);
    mem_free(g);
    redis_server_end(&w.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budgets_of_one_gateway),
        cmocka_unit_test(test_budgets_of_gateways_together),
        cmocka_unit_test(test_slots_are_shared),
        cmocka_unit_test(test_a_dead_gateway_gives_back),
        cmocka_unit_test(test_what_was_used_stays),
        cmocka_unit_test(test_an_empty_redis_is_told),
        cmocka_unit_test(test_redis_away_closed),
        cmocka_unit_test(test_redis_away_open),
        cmocka_unit_test(test_a_slow_goodbye_ends),
        cmocka_unit_test(test_waits_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
