/* What the gateways of one process share: breakers and the budget for retries, from many threads.
 */
#include "check.h"

#include "base/thread.h"
#include "gateway/gateway.h"
#include "gateway/shared.h"

enum { THREADS = 4 };

struct worker {
    struct thread thread;
    struct gw_shared *shared;
    struct gw_server *server;
    uint64_t now_ms;
    uint32_t n;
};

static void workers_run(struct worker *workers, const struct worker *like, void (*run)(void *ctx))
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = *like;
        assert_int_equal(thread_start(&workers[i].thread, "worker", -1, run, &workers[i]), RC_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(&workers[i].thread);
    }
}

static uint32_t workers_sum(const struct worker *workers)
{
    uint32_t sum = 0;
    for (int i = 0; i < THREADS; i++) {
        sum += workers[i].n;
    }
    return sum;
}

static void worker_begin_trials(void *ctx)
{
    struct worker *w = ctx;
    for (int i = 0; i < 1000; i++) {
        w->n += gw_server_begin(w->server, w->now_ms) ? 1 : 0;
    }
}

static void worker_call(void *ctx)
{
    struct worker *w = ctx;
    for (int i = 0; i < 1000; i++) {
        if (gw_server_begin(w->server, w->now_ms)) {
            (void)gw_server_finish(w->server, i % 4 == 0 ? BREAKER_FAILED : BREAKER_OK, w->now_ms);
        }
        w->n += gw_server_look(w->server, w->now_ms) == BREAKER_CLOSED ? 1 : 0;
    }
}

static void a_breaker_is_one_for_all(void **state)
{
    (void)state;
    struct gw_shared *s = NULL;
    struct worker workers[THREADS];
    gw_shared_create(&s, &(struct gw_shared_conf){0});
    struct gw_server *one = gw_shared_server_get(s, STR_LIT("one"));
    struct gw_server *same = gw_shared_server_get(s, STR_LIT("one"));
    assert_ptr_equal(one, same);
    struct worker like = {.shared = s, .server = one, .now_ms = 1000};
    workers_run(workers, &like, worker_call);
    gw_server_reset(one);
    for (int i = 0; i < BREAKER_RUN_MAX; i++) { /* of two loops, in turn */
        struct gw_server *at = i % 2 == 0 ? one : same;
        assert_int_equal(gw_server_look(at, 1000), BREAKER_CLOSED);
        assert_true(gw_server_begin(at, 1000));
        assert_int_equal(gw_server_finish(at, BREAKER_FAILED, 1000), i == BREAKER_RUN_MAX - 1);
    }
    assert_int_equal(gw_server_look(same, 1000), BREAKER_OPEN);
    assert_false(gw_server_begin(same, 1000));

    like.now_ms = 1000 + BREAKER_OPEN_MS;
    assert_int_equal(gw_server_look(same, like.now_ms), BREAKER_HALF_OPEN);
    workers_run(workers, &like, worker_begin_trials);
    assert_int_equal(workers_sum(workers), BREAKER_TRIALS);
    for (int i = 0; i < BREAKER_TRIALS; i++) {
        assert_int_equal(gw_server_finish(same, BREAKER_OK, like.now_ms), i == BREAKER_TRIALS - 1);
    }
    assert_int_equal(gw_server_look(one, like.now_ms), BREAKER_CLOSED);
    gw_shared_server_put(s, one);
    gw_shared_server_put(s, same);
    gw_shared_put(s);
}

static void worker_take_retries(void *ctx)
{
    struct worker *w = ctx;
    for (int i = 0; i < 2 * GATEWAY_RETRIES_MAX; i++) {
        gw_shared_retry_earn(w->shared);
        w->n += gw_shared_retry_take(w->shared) ? 1 : 0;
    }
}

static void retries_have_one_budget(void **state)
{
    (void)state;
    struct gw_shared *s = NULL;
    struct worker workers[THREADS];
    const uint32_t n_requests = THREADS * 2 * GATEWAY_RETRIES_MAX;
    gw_shared_create(&s, &(struct gw_shared_conf){0});
    workers_run(workers, &(struct worker){.shared = s}, worker_take_retries);
    /* What was earned with a full stock is not kept: at most so many requests. */
    assert_in_range(workers_sum(workers),
                    GATEWAY_RETRIES_MAX + n_requests / GATEWAY_RETRY_COST - THREADS - 1,
                    GATEWAY_RETRIES_MAX + n_requests / GATEWAY_RETRY_COST);
    while (gw_shared_retry_take(s)) {} /* less than one is left */
    gw_shared_retry_give(s);
    assert_true(gw_shared_retry_take(s));
    assert_false(gw_shared_retry_take(s));
    gw_shared_put(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_breaker_is_one_for_all),
        cmocka_unit_test(retries_have_one_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
