/* The engine thread with the model that ships: jobs alone and together, stops, cancels, slow
 * readers, too few pages. */
#include "10_module/server/step_rig.h"

enum { JOBS_MAX = 16 };

static const char *const prompts[] = {
    "Once there was a fox",
    "The old boat",
    "Mia and Tom went to the",
    "In the garden",
};

static void jobs_together_say_what_they_say_alone(void **state)
{
    (void)state;
    struct rig r;
    struct answer alone[ARRAY_LEN(prompts)], together[ARRAY_LEN(prompts)];
    rig_open(&r, 64, 8);
    for (size_t i = 0; i < ARRAY_LEN(prompts); i++) {
        struct job_params p = greedy(12);
        p.sample.temperature = i % 2 == 0 ? 0 : 0.9f;
        p.sample.seed = 7 + i;
        rig_submit(&r, &alone[i], prompts[i], p);
        rig_finish(&r, 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(prompts); i++) {
        struct job_params p = greedy(12);
        p.sample.temperature = i % 2 == 0 ? 0 : 0.9f;
        p.sample.seed = 7 + i;
        rig_submit(&r, &together[i], prompts[i], p);
    }
    rig_finish(&r, ARRAY_LEN(prompts));
    for (size_t i = 0; i < ARRAY_LEN(prompts); i++) {
        assert_true(alone[i].text.len > 0);
        assert_string_equal(alone[i].text.ptr, together[i].text.ptr);
        assert_int_equal(alone[i].n_output, together[i].n_output);
        buf_deinit(&alone[i].text);
        buf_deinit(&together[i].text);
    }
    rig_close(&r);
}

/* Some 90 tokens. */
static const char long_prompt[] =
    "Once upon a time there was a little fox who lived in the garden behind the old house. Every "
    "day the fox went to the river to see the boat. One day the boat was gone and the fox was "
    "very sad. Mia and Tom came to the garden and they saw the fox. They wanted to help the fox "
    "find the boat, and so they all went to the river and looked and looked";

static void a_prefix_is_computed_once(void **state)
{
    (void)state;
    struct rig r;
    struct answer first, again[3], stranger;
    struct step_stats before, after;
    rig_open(&r, 64, 8);
    struct job_params p = greedy(12);
    p.tenant = STR_LIT("a");
    p.sample.ignore_eos = true;
    rig_submit(&r, &first, long_prompt, p);
    rig_finish(&r, 1);
    assert_int_equal(first.n_cached, 0);
    assert_true(first.n_prompt > 64);
    step_stats(r.step, &before);
    for (int i = 0; i < 3; i++) {
        rig_submit(&r, &again[i], long_prompt, p);
    }
    p.tenant = STR_LIT("b");
    rig_submit(&r, &stranger, long_prompt, p);
    rig_finish(&r, 4);
    step_stats(r.step, &after);
    assert_int_equal(stranger.n_cached, 0);
    assert_string_equal(stranger.text.ptr, first.text.ptr);
    for (int i = 0; i < 3; i++) {
        assert_true(again[i].n_cached >= 64);
        assert_string_equal(again[i].text.ptr, first.text.ptr);
        buf_deinit(&again[i].text);
    }
    assert_int_equal(after.n_hit_tokens - before.n_hit_tokens, 3 * again[0].n_cached);
    assert_int_equal(after.kv_pages_used, 0);
    buf_deinit(&stranger.text);
    buf_deinit(&first.text);
    rig_close(&r);
}

static void too_few_pages_only_cost_time(void **state)
{
    (void)state;
    struct rig r;
    struct answer rich[4], poor[4];
    for (int pass = 0; pass < 2; pass++) {
        struct answer *answers = pass == 0 ? rich : poor;
        rig_open(&r, pass == 0 ? 64 : 3, 4); /* each needs 2 of the 3 pages in the end */
        for (uint32_t i = 0; i < 4; i++) {
            struct job_params p = greedy(40);
            p.sample.ignore_eos = true;
            /* The younger has the longer prompt: it takes the last page, the older takes it back.
             */
            rig_submit(&r, &answers[i], prompts[(i + 1) % ARRAY_LEN(prompts)], p);
        }
        rig_finish(&r, 4);
        struct step_stats stats;
        step_stats(r.step, &stats);
        if (pass == 1) {
            assert_true(stats.n_preempted > 0);
        }
        rig_close(&r);
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(poor[i].finish, JOB_LENGTH);
        assert_int_equal(poor[i].n_output, 40);
        assert_string_equal(poor[i].text.ptr, rich[i].text.ptr);
        buf_deinit(&rich[i].text);
        buf_deinit(&poor[i].text);
    }
}

static void a_stop_string_ends_the_answer_before_it(void **state)
{
    (void)state;
    struct rig r;
    struct answer whole, cut;
    rig_open(&r, 16, 2);
    rig_submit(&r, &whole, prompts[0], greedy(30));
    rig_finish(&r, 1);
    assert_true(whole.text.len > 12);
    /* A stop string from the middle of the text crosses token borders. */
    struct str stop = str_slice(buf_str(&whole.text), 7, 12);
    size_t at = str_find(buf_str(&whole.text), stop);
    struct job_params p = greedy(30);
    p.stops = &stop;
    p.n_stops = 1;
    rig_submit(&r, &cut, prompts[0], p);
    rig_finish(&r, 1);
    assert_int_equal(cut.finish, JOB_STOP);
    assert_int_equal(cut.text.len, at);
    assert_memory_equal(cut.text.ptr != NULL ? cut.text.ptr : "", whole.text.ptr, at);
    buf_deinit(&whole.text);
    buf_deinit(&cut.text);
    rig_close(&r);
}

static void every_shown_token_has_its_logprob(void **state)
{
    (void)state;
    struct rig r;
    struct answer a;
    rig_open(&r, 16, 2);
    struct job_params p = greedy(15);
    p.sample.want_logprob = true;
    p.sample.n_top_logprobs = 3;
    p.sample.ignore_eos = true;
    rig_submit(&r, &a, prompts[1], p);
    rig_finish(&r, 1);
    assert_int_equal(a.finish, JOB_LENGTH);
    assert_int_equal(a.n_output, 15);
    assert_int_equal(a.n_tokens, 15);
    buf_deinit(&a.text);
    rig_close(&r);
}

static void a_cancelled_job_ends_and_gives_its_pages_back(void **state)
{
    (void)state;
    struct rig r;
    struct answer a[JOBS_MAX];
    rig_open(&r, 64, 8);
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        struct job_params p = greedy(200);
        p.sample.ignore_eos = true;
        rig_submit(&r, &a[i], prompts[i % ARRAY_LEN(prompts)], p);
    }
    usleep(20000);
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        step_cancel(r.step, a[i].job);
    }
    rig_finish(&r, JOBS_MAX);
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        assert_int_equal(a[i].finish, JOB_CANCELLED);
        buf_deinit(&a[i].text);
    }
    /* The next job runs on the pages that came back. */
    rig_submit(&r, &a[0], prompts[0], greedy(5));
    rig_finish(&r, 1);
    assert_int_not_equal(a[0].finish, JOB_CANCELLED);
    buf_deinit(&a[0].text);
    struct step_stats stats;
    step_stats(r.step, &stats);
    assert_int_equal(stats.kv_pages_total, 64);
    rig_close(&r);
}

static void a_deadline_ends_an_answer(void **state)
{
    (void)state;
    struct rig r;
    struct answer a, late;
    rig_open(&r, 64, 2);
    struct job_params p = greedy(200);
    p.sample.ignore_eos = true;
    p.deadline_ns = clock_mono_ns(clock_system()) - 1;
    rig_submit(&r, &late, prompts[0], p);
    rig_finish(&r, 1);
    assert_int_equal(late.finish, JOB_FAILED);
    assert_int_equal(late.err.code, RC_TIMEOUT);
    assert_int_equal(late.n_output, 0);
    /* Nobody reads: the sequence pauses, and still ends when its time is over. */
    p.sample.want_logprob = true;
    p.deadline_ns = clock_mono_ns(clock_system()) + UINT64_C(1500000000);
    rig_submit(&r, &a, prompts[1], p);
    usleep(2000000);
    rig_finish(&r, 1);
    assert_int_equal(a.finish, JOB_FAILED);
    assert_int_equal(a.err.code, RC_TIMEOUT);
    assert_true(a.n_output > 0);
    struct step_stats stats;
    step_stats(r.step, &stats);
    assert_int_equal(stats.kv_pages_used, 0);
    buf_deinit(&a.text);
    buf_deinit(&late.text);
    rig_close(&r);
}

static void stopping_ends_what_runs_and_what_waits(void **state)
{
    (void)state;
    struct rig r;
    struct answer a[4];
    rig_open(&r, 64, 2);
    for (uint32_t i = 0; i < 4; i++) {
        struct job_params p = greedy(200);
        p.sample.ignore_eos = true;
        rig_submit(&r, &a[i], prompts[i], p);
    }
    step_stop(r.step);
    rig_finish(&r, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(a[i].finish == JOB_CANCELLED || a[i].finish == JOB_LENGTH);
        buf_deinit(&a[i].text);
    }
    struct job_params p = greedy(5);
    int32_t token = 1;
    struct job *late;
    struct err err = {0};
    p.prompt = &token;
    p.n_prompt = 1;
    assert_int_equal(job_create(&late, &p, NULL, NULL), RC_OK);
    assert_int_equal(step_submit(r.step, r.model, late, &err), RC_UNAVAILABLE);
    job_destroy(late);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_together_say_what_they_say_alone),
        cmocka_unit_test(a_prefix_is_computed_once),
        cmocka_unit_test(too_few_pages_only_cost_time),
        cmocka_unit_test(a_stop_string_ends_the_answer_before_it),
        cmocka_unit_test(every_shown_token_has_its_logprob),
        cmocka_unit_test(a_cancelled_job_ends_and_gives_its_pages_back),
        cmocka_unit_test(a_deadline_ends_an_answer),
        cmocka_unit_test(stopping_ends_what_runs_and_what_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
