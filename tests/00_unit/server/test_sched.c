/* The scheduler's rules one by one: no engine, no thread, a fake clock. */
#include "00_unit/server/sched_world.h"

static void decoding_comes_first_and_prompts_fill_the_budget(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 500, .running_max = 8, .waiting_max = 8};
    struct sim_seq q[2];
    world_open(&w, &conf, 64);
    sim_start(&w, &q[0], &(struct sim_prompt){.n_prompt = 500, .n_output = 10});
    assert_true(sim_submit(&w, &q[0]));
    /* Alone: four budgets, 400 ms at a good ms a row, up to a page's end. */
    const struct sched_plan *plan = world_step(&w);
    assert_int_equal(plan->n_rows, 1);
    assert_in_range(plan->rows[0].n_rows, 350, 400);
    assert_int_equal(plan->rows[0].n_rows % KV_PAGE_TOKENS, 0);
    assert_false(plan->rows[0].wants_logits);
    plan = world_step(&w);
    assert_true(plan->rows[0].wants_logits);
    assert_true(sim_sample(&w, &plan->rows[0]));

    sim_start(&w, &q[1], &(struct sim_prompt){.n_prompt = 300, .n_output = 5});
    assert_true(sim_submit(&w, &q[1]));
    plan = world_step(&w);
    assert_int_equal(plan->n_rows, 2);
    assert_ptr_equal(plan->rows[0].seq, &q[0].sched);
    assert_int_equal(plan->rows[0].n_rows, 1);
    assert_in_range(plan->rows[1].n_rows, 64, 97); /* beside decoding: one budget */
    assert_true(plan->predicted_ns <= 100e6);
    sched_check(&w.s);

    assert_true(sim_sample(&w, &plan->rows[0]));
    q[0].sched.paused = true;
    plan = world_step(&w);
    assert_int_equal(plan->n_rows, 1);
    assert_ptr_equal(plan->rows[0].seq, &q[1].sched);
    sim_end(&w, &q[0]);
    sim_end(&w, &q[1]);
    world_close(&w);
}

/* A short prompt comes in every step; two steps of three begin with them, the third with the book.
 */
static void the_shortest_prompt_goes_first_but_in_each_third_step(void **state)
{
    (void)state;
    enum { N = 7 };
    struct world w;
    struct sched_conf conf = {.rows_max = 512, .running_max = N, .waiting_max = 8};
    struct sim_seq q[N];
    world_open(&w, &conf, 512);
    sim_start(&w, &q[0], &(struct sim_prompt){.n_prompt = 9000, .n_output = 2});
    assert_true(sim_submit(&w, &q[0]));
    (void)world_step(&w);
    int n_oldest = 0;
    for (int i = 1; i < N; i++) {
        sim_start(&w, &q[i], &(struct sim_prompt){.n_prompt = 300, .n_output = 2});
        assert_true(sim_submit(&w, &q[i]));
        const struct sched_plan *plan = world_step(&w);
        bool oldest = plan->rows[0].seq == &q[0].sched;
        n_oldest += oldest;
        if (!oldest) { /* and what is left of the step is the long one's */
            assert_true(plan->rows[0].wants_logits);
            assert_ptr_equal(plan->rows[1].seq, &q[0].sched);
            assert_true(sim_sample(&w, &plan->rows[0]));
        }
        q[i].sched.paused = true;
    }
    assert_int_equal(n_oldest, (N - 1) / 3);
    for (int i = 0; i < N; i++) {
        sim_end(&w, &q[i]);
    }
    world_close(&w);
}

static void the_line_has_an_end_and_a_tenant_three_quarters_of_it(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 8, .running_max = 1, .waiting_max = 8};
    struct sim_seq q[9];
    world_open(&w, &conf, 8);
    for (int i = 0; i < 9; i++) {
        struct sim_prompt p = {.n_prompt = 4, .n_output = 4, .tenant = i < 7 ? "a" : "b"};
        sim_start(&w, &q[i], &p);
        assert_int_equal(sim_submit(&w, &q[i]), i != 6);
    }
    struct sim_seq late;
    sim_start(&w, &late, &(struct sim_prompt){.n_prompt = 4, .n_output = 4, .tenant = "c"});
    assert_false(sim_submit(&w, &late));
    sim_drop(&w, &late);
    sim_drop(&w, &q[6]);
    for (int i = 0; i < 9; i++) {
        if (i != 6) {
            sim_end(&w, &q[i]);
        }
    }
    world_close(&w);
}

/* Paused sequences hold every place and nearly every page: who can run gets both. */
static void paused_ones_make_room(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 64, .running_max = 2, .waiting_max = 4};
    struct sim_seq q[5];
    world_open(&w, &conf, 5);
    for (int i = 0; i < 5; i++) {
        sim_start(&w, &q[i], &(struct sim_prompt){.n_prompt = 60, .n_output = 4});
    }
    for (int i = 0; i < 2; i++) {
        assert_true(sim_submit(&w, &q[i]));
        const struct sched_plan *plan = world_step(&w);
        assert_int_equal(plan->n_rows, 1);
        assert_true(sim_sample(&w, &plan->rows[0]));
        q[i].sched.paused = true;
    }
    assert_int_equal(sched_n_running(&w.s), 2);
    assert_true(sim_submit(&w, &q[2]));
    const struct sched_plan *plan = world_step(&w);
    assert_int_equal(plan->n_rows, 1);
    assert_ptr_equal(plan->rows[0].seq, &q[2].sched);
    assert_true(sim_sample(&w, &plan->rows[0]));
    sched_check(&w.s);
    /* Those that were put back do not fill the line either. */
    assert_true(sim_submit(&w, &q[3]));
    assert_true(sim_submit(&w, &q[4]));
    /* Read after all: who was there before comes before new ones. */
    q[0].sched.paused = false;
    sim_end(&w, &q[2]);
    plan = world_step(&w);
    assert_ptr_equal(plan->rows[0].seq, &q[0].sched);
    assert_int_equal(plan->rows[0].n_rows, 1); /* its pages were still there */
    sched_check(&w.s);
    for (int i = 0; i < 5; i++) {
        if (i != 2) {
            sim_end(&w, &q[i]);
        }
    }
    world_close(&w);
}

/* A better class takes the place of a worse one, and gives it back; waiting makes a class better.
 */
static void classes_are_strict_until_they_age(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {
        .rows_max = 64, .running_max = 1, .waiting_max = 8, .aging_ns = 2000 * MS};
    struct sim_seq q[3];
    world_open(&w, &conf, 32);
    sim_start(&w, &q[0], &(struct sim_prompt){.n_prompt = 40, .n_output = 50, .class = 2});
    sim_start(&w, &q[1], &(struct sim_prompt){.n_prompt = 40, .n_output = 50, .class = 0});
    sim_start(&w, &q[2], &(struct sim_prompt){.n_prompt = 40, .n_output = 50, .class = 0});
    assert_true(sim_submit(&w, &q[0]));
    assert_ptr_equal(world_step(&w)->rows[0].seq, &q[0].sched);
    assert_true(sim_sample(&w, &w.s.plan.rows[0]));
    assert_true(sim_submit(&w, &q[1]));
    assert_ptr_equal(world_step(&w)->rows[0].seq, &q[1].sched);
    assert_int_equal(sched_counts(&w.s)->n_preempted, 1);
    sim_end(&w, &q[1]);
    assert_ptr_equal(world_step(&w)->rows[0].seq, &q[0].sched);
    assert_true(sim_sample(&w, &w.s.plan.rows[0]));
    w.now_ns += 4000 * MS;
    assert_true(sim_submit(&w, &q[2]));
    assert_ptr_equal(world_step(&w)->rows[0].seq, &q[0].sched);
    sim_end(&w, &q[0]);
    sim_end(&w, &q[2]);
    world_close(&w);
}

static void a_tenant_runs_no_more_than_its_cap(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {
        .rows_max = 256, .running_max = 4, .tenant_running_max = 2, .waiting_max = 8};
    struct sim_seq q[4];
    world_open(&w, &conf, 32);
    for (int i = 0; i < 4; i++) {
        struct sim_prompt p = {.n_prompt = 10, .n_output = 5, .tenant = i < 3 ? "a" : "b"};
        sim_start(&w, &q[i], &p);
        assert_true(sim_submit(&w, &q[i]));
    }
    const struct sched_plan *plan = world_step(&w);
    assert_int_equal(plan->n_rows, 3);
    assert_false(q[2].sched.running);
    for (int i = 0; i < 4; i++) {
        sim_end(&w, &q[i]);
    }
    world_close(&w);
}

/* Four askers with one long beginning: the first computes it, the others take it. */
static void a_shared_prefix_is_computed_once(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 512, .running_max = 8, .waiting_max = 8};
    struct sim_seq q[5];
    world_open(&w, &conf, 256);
    for (int i = 0; i < 5; i++) {
        struct sim_prompt p = {.n_prompt = 700,
                               .n_output = 4,
                               .n_shared = 650,
                               .text = 3,
                               .tenant = i < 4 ? "a" : "b"};
        sim_start(&w, &q[i], &p);
        assert_true(sim_submit(&w, &q[i]));
    }
    uint64_t n_rows = 0;
    while (!(q[0].first_ns && q[1].first_ns && q[2].first_ns && q[3].first_ns && q[4].first_ns)) {
        const struct sched_plan *plan = world_step(&w);
        assert_true(plan->n_rows > 0);
        for (uint32_t i = 0; i < plan->n_rows; i++) {
            n_rows += plan->rows[i].n_rows;
            if (plan->rows[i].wants_logits && !sim_sample(&w, &plan->rows[i])) {
                CONTAINER_OF(plan->rows[i].seq, struct sim_seq, sched)->sched.paused = true;
            }
        }
    }
    assert_in_range(n_rows, 2 * 700 + 3 * 50, 2 * 700 + 3 * 80 + 20);
    /* Up to the token where they part, by a copied page; another tenant finds nothing. */
    for (int i = 1; i < 4; i++) {
        assert_in_range(q[i].sched.n_hit, 650, 651);
    }
    assert_int_equal(q[0].sched.n_hit + q[4].sched.n_hit, 0);
    for (int i = 0; i < 5; i++) {
        sim_end(&w, &q[i]);
    }
    world_close(&w);
}

/* Choices of one prompt share all of it but the last token, copied page included. */
static void the_same_prompt_again_costs_a_row(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 512, .running_max = 8, .waiting_max = 8};
    static const uint32_t lengths[] = {110, 96, 20, 32, 33};
    for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
        struct sim_seq q[3];
        uint32_t n = lengths[k];
        world_open(&w, &conf, 64);
        for (int i = 0; i < 3; i++) {
            struct sim_prompt p = {.n_prompt = n, .n_output = 3, .n_shared = n, .text = k};
            sim_start(&w, &q[i], &p);
            assert_true(sim_submit(&w, &q[i]));
        }
        world_finish(&w, 3);
        for (int i = 1; i < 3; i++) {
            assert_int_equal(q[i].sched.n_hit, n - 1);
        }
        world_close(&w);
    }
}

static void guesses_ride_where_they_pay(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 64, .running_max = 4, .waiting_max = 4};
    struct sim_seq q;
    world_open(&w, &conf, 8);
    sim_start(&w, &q, &(struct sim_prompt){.n_prompt = 10, .n_output = 40});
    assert_true(sim_submit(&w, &q));
    assert_true(sim_sample(&w, &world_step(&w)->rows[0]));
    /* The floor is worth seven rows: guesses are free, if likely to be right. */
    q.sched.n_draft = SCHED_DRAFT_MAX;
    q.sched.draft_chance = 0.9f;
    for (uint32_t i = 0; i < SCHED_DRAFT_MAX; i++) {
        q.n_output += i; /* the first three will be right */
        q.tokens[q.sched.n_tokens + i] = i < 3 ? sim_next_token(&q) : -5;
        q.n_output -= i;
    }
    const struct sched_plan *plan = world_step(&w);
    assert_int_equal(plan->rows[0].n_draft, 7);
    assert_int_equal(plan->rows[0].n_rows, 8);
    assert_int_equal(plan->load.n_logits, 8);
    uint32_t before = q.sched.n_tokens;
    assert_true(sim_sample(&w, &plan->rows[0]));
    assert_int_equal(q.sched.n_tokens, before + 4);
    assert_int_equal(q.sched.n_cached, q.sched.n_tokens - 1);
    q.sched.draft_chance = 0.001f;
    plan = world_step(&w);
    assert_int_equal(plan->rows[0].n_draft, 0);
    assert_true(sim_sample(&w, &plan->rows[0]));
    /* When rows cost what a token costs, a likely guess still pays, an unlikely one does not. */
    w.cost.ns[COST_FLOOR] = 1;
    w.cost.ns[COST_BASE] = 1;
    q.sched.draft_chance = 0.5f;
    assert_int_equal(world_step(&w)->rows[0].n_draft, 0);
    sim_end(&w, &q);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_comes_first_and_prompts_fill_the_budget),
        cmocka_unit_test(the_shortest_prompt_goes_first_but_in_each_third_step),
        cmocka_unit_test(the_line_has_an_end_and_a_tenant_three_quarters_of_it),
        cmocka_unit_test(paused_ones_make_room),
        cmocka_unit_test(classes_are_strict_until_they_age),
        cmocka_unit_test(a_tenant_runs_no_more_than_its_cap),
        cmocka_unit_test(a_shared_prefix_is_computed_once),
        cmocka_unit_test(the_same_prompt_again_costs_a_row),
        cmocka_unit_test(guesses_ride_where_they_pay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
