/* The promise of the engine thread: the same seed gives the same text and the same
 * log-probabilities, bit for bit, alone and under load, from the prefix cache, after preemption,
 * with guesses and without, in small steps and large ones. */
#include "10_module/server/step_rig.h"

enum { N_ASKS = 18, OUTPUT_MAX = 60 };

static const char *const beginnings[] = {
    "Once there was a fox",
    "Once upon a time there was a little girl who had a red ball. She took the red ball to the "
    "park. At the park she saw a boy. The boy had a blue ball. The girl said",
    "Once upon a time there was a little girl who had a red ball. She took the red ball to the "
    "park. At the park she saw a dog. The dog",
    "one two three one two three one two three one two",
    "The old boat",
};

/* A clock that ticks with every look at it: all steps take as long as any other, so rows are free
 * and guesses always pay. */
static uint64_t tick_ns(const struct clock *c)
{
    static _Atomic uint64_t ticks;
    UNUSED(c);
    return 1000000 * ++ticks;
}

static const struct clock ticking = {.mono_ns = tick_ns, .wall_ns = tick_ns};

/* Everything that may make an answer depend on how it was computed. */
static struct job_params ask(uint32_t i, struct str *stop)
{
    struct job_params p = greedy(20 + i * 7 % 41);
    struct sample_params *s = &p.sample;
    s->temperature = i % 3 == 0 ? 0 : 0.8f;
    s->seed = 100 + i;
    s->top_k = i % 4 == 1 ? 40 : 0;
    s->top_p = i % 4 == 2 ? 0.9f : 1;
    s->repetition_penalty = i % 5 == 3 ? 1.2f : 1;
    s->presence_penalty = i % 5 == 4 ? 0.7f : 0;
    s->want_logprob = i % 2 == 0;
    s->n_top_logprobs = i % 4 == 0 ? 3 : 0;
    s->ignore_eos = i % 6 != 5;
    s->min_tokens = i % 7 == 6 ? 10 : 0;
    if (i % 3 == 2) {
        *stop = i % 2 == 0 ? STR_LIT("ed to") : STR_LIT("er ");
        p.stops = stop;
        p.n_stops = 1;
    }
    p.tenant = i % 4 == 3 ? STR_LIT("other") : STR_LIT("one");
    p.priority = i % 3;
    return p;
}

static void run(struct answer *answers, uint32_t kv_pages, struct step_conf conf, bool alone,
                struct step_stats *stats)
{
    struct rig r;
    struct str stops[N_ASKS];
    rig_open_conf(&r, MODEL_PATH, kv_pages, conf);
    for (uint32_t i = 0; i < N_ASKS; i++) {
        const char *prompt = beginnings[i % ARRAY_LEN(beginnings)];
        rig_submit(&r, &answers[i], prompt, ask(i, &stops[i]));
        if (alone) {
            rig_finish(&r, 1);
        }
    }
    if (!alone) {
        rig_finish(&r, N_ASKS);
    }
    step_stats(r.step, stats);
    assert_int_equal(stats->kv_pages_used, 0);
    rig_close(&r);
}

static void the_same_text_whatever_else_happens(void **state)
{
    (void)state;
    const struct {
        const char *what;
        uint32_t kv_pages;
        struct step_conf conf;
        bool alone;
        bool hits, preempts, guesses; /* must have happened */
    } rows[] = {
        {"guesses",
         64,
         {.clock = &ticking, .running_max = 1, .no_prefix_cache = true},
         true,
         false,
         false,
         true},
        {"guesses together", 64, {.clock = &ticking, .running_max = 6}, false, true, false, true},
        {"guesses, few pages", 8, {.clock = &ticking, .running_max = 16}, false, true, true, true},
        {"prefix hits", 64, {.running_max = 1, .no_speculation = true}, true, true, false, false},
        {"together", 64, {.running_max = 16}, false, true, false, false},
        {"tiny steps", 64, {.running_max = 16, .budget_ms = 1}, false, true, false, false},
        {"few pages", 8, {.running_max = 16}, false, true, true, false},
        {"few pages, no cache",
         8,
         {.running_max = 16, .no_prefix_cache = true, .no_speculation = true},
         false,
         false,
         true,
         false},
    };
    struct answer want[N_ASKS], got[N_ASKS];
    struct step_stats stats;
    uint32_t n_stopped = 0;
    run(want, 64,
        (struct step_conf){.running_max = 1, .no_prefix_cache = true, .no_speculation = true}, true,
        &stats);
    assert_int_equal(stats.n_drafted + stats.n_hit_tokens + stats.n_preempted, 0);
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        print_message("%s\n", rows[row].what);
        run(got, rows[row].kv_pages, rows[row].conf, rows[row].alone, &stats);
        for (uint32_t i = 0; i < N_ASKS; i++) {
            assert_int_equal(got[i].finish, want[i].finish);
            assert_int_equal(got[i].n_output, want[i].n_output);
            assert_true(str_eq(buf_str(&got[i].text), buf_str(&want[i].text)));
            assert_true(got[i].tokens_hash == want[i].tokens_hash);
            n_stopped += want[i].finish == JOB_STOP ? 1 : 0;
            buf_deinit(&got[i].text);
        }
        assert_true(!rows[row].hits || stats.n_hit_tokens > 0);
        assert_true(!rows[row].preempts || stats.n_preempted > 0);
        assert_true(!rows[row].guesses ||
                    (stats.n_accepted > 0 && stats.n_accepted < stats.n_drafted));
    }
    assert_true(n_stopped > 0);
    for (uint32_t i = 0; i < N_ASKS; i++) {
        buf_deinit(&want[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_text_whatever_else_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
