/* The scheduler under thousands of simulated steps: no engine, no thread. */
#include "check.h"

#include <string.h>

#include "base/rng.h"
#include "engine/tensor/backend.h"
#include "server/sched.h"

struct sim_seq {
    struct sched_seq sched;
    uint32_t pages[64];
    struct hash128 keys[64];
    int32_t tokens[64 * KV_PAGE_TOKENS];
    uint32_t n_tokens_end;
    bool live;
};

/* A scheduler with its pages. */
struct world {
    struct kv_pages pages;
    struct prefix prefix;
    struct sched s;
};

static void world_open(struct world *w, const struct sched_conf *conf, uint32_t n_pages)
{
    kv_pages_init(&w->pages, n_pages);
    prefix_init(&w->prefix, &(struct prefix_conf){.on = true, .seed = 5}, &w->pages);
    sched_init(&w->s, conf, &w->pages, &w->prefix);
}

static void world_close(struct world *w)
{
    assert_int_equal(kv_pages_left(&w->pages), kv_pages_total(&w->pages));
    sched_deinit(&w->s);
    prefix_deinit(&w->prefix);
    kv_pages_deinit(&w->pages);
}

static void sim_start(struct sim_seq *q, uint32_t n_prompt, uint32_t n_output)
{
    static int32_t text; /* no two prompts are alike, unless a test makes them so */
    memset(q, 0, sizeof(*q));
    for (uint32_t i = 0; i < ARRAY_LEN(q->tokens); i++) {
        q->tokens[i] = text++;
    }
    q->sched.page_ids = q->pages;
    q->sched.keys = q->keys;
    q->sched.tokens = q->tokens;
    q->sched.n_tokens = n_prompt;
    q->n_tokens_end = n_prompt + n_output;
    q->sched.n_pages_max = (q->n_tokens_end + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    q->live = true;
}

static void decoding_comes_first_and_prompts_fill_the_rest(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {
        .rows_max = 100, .prefill_rows_max = 40, .running_max = 8, .waiting_max = 8};
    world_open(&w, &conf, 64);
    struct sim_seq q[2];
    struct sched_row rows[8];
    sim_start(&q[0], 150, 10);
    assert_true(sched_submit(&w.s, &q[0].sched));
    assert_int_equal(sched_plan(&w.s, rows), 1);
    assert_int_equal(rows[0].n_rows, 100);
    assert_false(rows[0].wants_logits);
    sched_done(&w.s, rows, 1);
    assert_int_equal(sched_plan(&w.s, rows), 1);
    assert_int_equal(rows[0].n_rows, 50);
    assert_true(rows[0].wants_logits);
    sched_done(&w.s, rows, 1);
    q[0].sched.n_tokens++;

    sim_start(&q[1], 300, 5);
    assert_true(sched_submit(&w.s, &q[1].sched));
    assert_int_equal(sched_plan(&w.s, rows), 2);
    assert_ptr_equal(rows[0].seq, &q[0].sched);
    assert_int_equal(rows[0].n_rows, 1);
    assert_int_equal(rows[1].n_rows, 40); /* beside a decoding sequence a prompt gets less */
    sched_done(&w.s, rows, 2);
    sched_check(&w.s);

    q[0].sched.n_tokens++;
    q[0].sched.paused = true;
    assert_int_equal(sched_plan(&w.s, rows), 1);
    assert_ptr_equal(rows[0].seq, &q[1].sched);
    sched_remove(&w.s, &q[0].sched);
    sched_remove(&w.s, &q[1].sched);
    world_close(&w);
}

static void the_line_has_an_end(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {
        .rows_max = 8, .prefill_rows_max = 8, .running_max = 1, .waiting_max = 2};
    world_open(&w, &conf, 8);
    struct sim_seq q[3];
    for (int i = 0; i < 3; i++) {
        sim_start(&q[i], 4, 4);
    }
    assert_true(sched_submit(&w.s, &q[0].sched));
    assert_true(sched_submit(&w.s, &q[1].sched));
    assert_false(sched_submit(&w.s, &q[2].sched));
    sched_remove(&w.s, &q[0].sched);
    sched_remove(&w.s, &q[1].sched);
    world_close(&w);
}

/* Paused sequences hold every place and nearly every page: who can run gets both. */
static void paused_ones_make_room(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {
        .rows_max = 64, .prefill_rows_max = 64, .running_max = 2, .waiting_max = 2};
    struct sched_row rows[2];
    struct sim_seq q[5];
    world_open(&w, &conf, 5);
    for (int i = 0; i < 5; i++) {
        sim_start(&q[i], 60, 60);
    }
    for (int i = 0; i < 2; i++) {
        assert_true(sched_submit(&w.s, &q[i].sched));
        assert_int_equal(sched_plan(&w.s, rows), 1);
        sched_done(&w.s, rows, 1);
        q[i].sched.n_tokens++;
        q[i].sched.paused = true;
    }
    assert_int_equal(sched_n_running(&w.s), 2);
    assert_true(sched_submit(&w.s, &q[2].sched));
    assert_true(sched_submit(&w.s, &q[3].sched));
    assert_int_equal(sched_plan(&w.s, rows), 2);
    assert_ptr_equal(rows[0].seq, &q[2].sched);
    assert_int_equal(rows[0].n_rows, 60);
    assert_ptr_equal(rows[1].seq, &q[3].sched);
    sched_done(&w.s, rows, 2);
    q[2].sched.n_tokens++;
    sched_check(&w.s);
    /* Those that were put back do not fill the line either. */
    assert_true(sched_submit(&w.s, &q[4].sched));
    /* Read after all: the oldest comes first again, and is computed again. */
    q[0].sched.paused = false;
    sched_remove(&w.s, &q[2].sched);
    assert_true(sched_plan(&w.s, rows) > 0);
    assert_ptr_equal(rows[0].seq, &q[0].sched);
    sched_check(&w.s);
    for (int i = 0; i < 5; i++) {
        if (i != 2) {
            sched_remove(&w.s, &q[i].sched);
        }
    }
    world_close(&w);
}

/* Random arrivals, cancels and pauses under far too few pages: everything ends, pages come back,
 * and of two sequences of one length the older never ends later by preemption. */
static void random_load_always_finishes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        struct world w;
        uint32_t n_pages = 4 + rng_below(&rng, 20);
        struct sched_conf conf = {.rows_max = 16 + rng_below(&rng, 100),
                                  .prefill_rows_max = 8,
                                  .running_max = 1 + rng_below(&rng, 12),
                                  .waiting_max = 64};
        world_open(&w, &conf, n_pages);
        struct sim_seq q[40];
        struct sched_row rows[16];
        uint32_t n_started = 0, n_ended = 0, n_idle = 0;
        for (uint32_t turn = 0; n_ended < ARRAY_LEN(q); turn++) {
            assert_true(turn < 200000);
            if (n_started < ARRAY_LEN(q) && rng_below(&rng, 3) == 0) {
                uint32_t longest = n_pages * KV_PAGE_TOKENS;
                uint32_t n_prompt = 1 + rng_below(&rng, longest / 2);
                sim_start(&q[n_started], n_prompt, 1 + rng_below(&rng, longest - n_prompt));
                assert_true(sched_submit(&w.s, &q[n_started++].sched));
            }
            uint32_t n = sched_plan(&w.s, rows);
            sched_check(&w.s);
            bool idle = n == 0 && sched_n_running(&w.s) + sched_n_waiting(&w.s) > 0;
            for (uint32_t i = 0; idle && i < n_started; i++) {
                idle = !q[i].sched.paused; /* nothing to do although none is paused: stuck */
            }
            n_idle = idle ? n_idle + 1 : 0;
            assert_true(n_idle < 2);
            sched_done(&w.s, rows, n);
            for (uint32_t i = 0; i < n; i++) {
                struct sim_seq *done = CONTAINER_OF(rows[i].seq, struct sim_seq, sched);
                if (!rows[i].wants_logits) {
                    continue;
                }
                done->sched.n_tokens++;
                bool cancelled = rng_below(&rng, 500) == 0;
                if (done->sched.n_tokens >= done->n_tokens_end || cancelled) {
                    sched_remove(&w.s, &done->sched);
                    done->live = false;
                    done->sched.paused = false;
                    n_ended++;
                }
            }
            uint32_t pick = n_started > 0 ? rng_below(&rng, n_started) : 0;
            if (n_started > 0) {
                q[pick].sched.paused =
                    q[pick].live && !q[pick].sched.paused && rng_below(&rng, 4) == 0;
            }
        }
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_comes_first_and_prompts_fill_the_rest),
        cmocka_unit_test(the_line_has_an_end),
        cmocka_unit_test(paused_ones_make_room),
        cmocka_unit_test(random_load_always_finishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
