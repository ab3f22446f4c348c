/* The line of texts under a fake clock: when batches close, who is in them, cancellation, limits;
 * and beside the engine thread. */
#include "check.h"

#include <string.h>

#include "base/mem.h"
#include "server/step.h"

enum { N_OUT = 32, TOKENS = 4096 };

struct rig {
    struct clock_fake clock;
    struct embed *q;
    struct embed_model *m;
    int n_wakes;
};

static void rig_wake(void *ctx)
{
    ((struct rig *)ctx)->n_wakes++;
}

static struct engine *open_engine(const char *name)
{
    char path[128];
    struct err err = {0};
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n = 0;
    struct engine *e = NULL;
    struct engine_conf conf = {
        .backend = "cpu", .n_threads = 1, .kv_type = DTYPE_F32, .batch_tokens_max = 48};
    (void)snprintf(path, sizeof(path), "tests/golden/models/%s.gguf", name);
    if (weight_source_open_model(sources, &n, path, &err) != RC_OK ||
        engine_open(&e, sources, n, &conf, &err) != RC_OK) {
        fail_msg("%s: %s", path, err.msg);
    }
    return e;
}

static void rig_open(struct rig *r, struct embed_conf conf)
{
    struct err err = {0};
    *r = (struct rig){0};
    clock_fake_init(&r->clock, 0);
    conf.clock = &r->clock.clock;
    conf.wake = rig_wake;
    conf.wake_ctx = r;
    assert_int_equal(embed_create(&r->q, &conf, &err), RC_OK);
    assert_int_equal(embed_add_model(r->q, &r->m, open_engine("bert"), &err), RC_OK);
}

static void rig_close(struct rig *r)
{
    embed_destroy(r->q);
}

/* A job of n texts of n_tokens each, all of them token `id`. */
static struct embed_job *make_until(struct rig *r, uint32_t n, uint32_t n_tokens, int32_t id,
                                    uint64_t left_ms)
{
    struct embed_job *j = NULL;
    uint32_t lengths[256];
    int32_t tokens[TOKENS];
    assert_true(n <= ARRAY_LEN(lengths) && n * n_tokens <= TOKENS);
    for (uint32_t i = 0; i < n; i++) {
        lengths[i] = n_tokens;
    }
    for (uint32_t i = 0; i < n * n_tokens; i++) {
        tokens[i] = id;
    }
    struct embed_texts texts = {.n = n, .n_tokens = lengths, .tokens = tokens};
    texts.deadline_ns = left_ms != 0 ? clock_mono_ns(&r->clock.clock) + left_ms * 1000000 : 0;
    assert_int_equal(embed_job_create(&j, r->m, &texts, r, NULL), RC_OK);
    return j;
}

static struct embed_job *make(struct rig *r, uint32_t n, uint32_t n_tokens, int32_t id)
{
    return make_until(r, n, n_tokens, id, 0);
}

static struct embed_job *submit(struct rig *r, uint32_t n, uint32_t n_tokens, int32_t id)
{
    struct embed_job *j = make(r, n, n_tokens, id);
    assert_int_equal(embed_submit(r->q, j, NULL), RC_OK);
    return j;
}

/* Turns until nothing is to be done now; returns the turns that ran. */
static uint32_t run(struct rig *r, uint64_t *due_ns)
{
    uint32_t n = 0;
    while (embed_turn(r->q, due_ns)) {
        n++;
    }
    return n;
}

static uint64_t n_batches(const struct rig *r)
{
    struct embed_stats s;
    embed_stats(r->q, &s);
    return s.n_batches;
}

static void done(struct rig *r, struct embed_job *expected)
{
    struct embed_job *j = embed_next(r->q);
    assert_ptr_equal(j, expected);
    assert_ptr_equal(embed_job_reader(j), r);
    embed_job_destroy(j);
}

static void a_batch_closes_by_time(void **state)
{
    (void)state;
    struct rig r;
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 5});
    assert_int_equal(run(&r, &due_ns), 0);
    assert_true(due_ns == UINT64_MAX);
    clock_fake_advance_ms(&r.clock, 100);
    struct embed_job *a = submit(&r, 1, 3, 7);
    assert_int_equal(run(&r, &due_ns), 0);
    assert_true(due_ns == clock_mono_ns(&r.clock.clock) + 5000000);
    clock_fake_advance_ms(&r.clock, 3);
    struct embed_job *b = submit(&r, 2, 3, 8);
    assert_int_equal(run(&r, &due_ns), 0);
    clock_fake_advance_ms(&r.clock, 2);
    assert_true(run(&r, &due_ns) > 0);
    assert_int_equal(n_batches(&r), 1);
    assert_true(r.n_wakes > 0);
    /* Same token, other text: same vector within a job, another beside it. */
    assert_memory_equal(embed_job_out(b), embed_job_out(b) + N_OUT, N_OUT * sizeof(float));
    assert_memory_not_equal(embed_job_out(a), embed_job_out(b), N_OUT * sizeof(float));
    done(&r, a);
    done(&r, b);
    assert_null(embed_next(r.q));
    rig_close(&r);
}

static void a_batch_closes_when_full(void **state)
{
    (void)state;
    struct rig r;
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 5});
    struct embed_job *a = submit(&r, 3, 2, 7);
    assert_int_equal(run(&r, &due_ns), 0);
    struct embed_job *b = submit(&r, 1, 2, 7);
    assert_true(run(&r, &due_ns) > 0);
    assert_int_equal(n_batches(&r), 1);
    done(&r, b);
    done(&r, a);
    /* Rows fill it as well: 48 in all, 20 each. */
    a = submit(&r, 3, 20, 7);
    assert_true(run(&r, &due_ns) > 0);
    assert_int_equal(n_batches(&r), 2);
    clock_fake_advance_ms(&r.clock, 5);
    assert_true(run(&r, &due_ns) > 0);
    assert_int_equal(n_batches(&r), 3);
    done(&r, a);
    rig_close(&r);
}

/* A short job that comes behind a long one is done before it. */
static void a_long_job_lets_a_short_one_by(void **state)
{
    (void)state;
    struct rig r;
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 5});
    struct embed_job *lng = submit(&r, 64, 2, 7);
    struct embed_job *quick = submit(&r, 1, 2, 9);
    while (embed_turn(r.q, &due_ns) && n_batches(&r) < 2) {}
    done(&r, quick);
    run(&r, &due_ns);
    clock_fake_advance_ms(&r.clock, 5);
    run(&r, &due_ns);
    done(&r, lng);
    assert_int_equal(n_batches(&r), 17);
    rig_close(&r);
}

static void a_cancelled_job_comes_back_without_vectors(void **state)
{
    (void)state;
    struct rig r;
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 5});
    struct embed_job *a = submit(&r, 64, 2, 7);
    struct embed_job *b = submit(&r, 2, 2, 9);
    embed_cancel(a);
    run(&r, &due_ns);
    assert_null(embed_job_out(a));
    done(&r, a);
    assert_null(embed_next(r.q));
    clock_fake_advance_ms(&r.clock, 5);
    run(&r, &due_ns);
    assert_int_equal(n_batches(&r), 1);
    assert_non_null(embed_job_out(b));
    done(&r, b);
    /* In the middle of a batch. */
    a = submit(&r, 64, 2, 7);
    assert_true(embed_turn(r.q, &due_ns));
    embed_cancel(a);
    run(&r, &due_ns);
    assert_true(n_batches(&r) < 5);
    done(&r, a);
    rig_close(&r);
}

static void the_end_gives_every_job_back(void **state)
{
    (void)state;
    struct rig r;
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 5});
    struct embed_job *a = submit(&r, 8, 2, 7);
    assert_true(embed_turn(r.q, &due_ns));
    struct embed_job *b = submit(&r, 8, 2, 7);
    embed_end(r.q);
    assert_null(embed_job_out(a));
    assert_null(embed_job_out(b));
    embed_job_destroy(embed_next(r.q));
    embed_job_destroy(embed_next(r.q));
    assert_null(embed_next(r.q));
    rig_close(&r);
}

static void the_line_is_bounded(void **state)
{
    (void)state;
    struct rig r;
    struct err err = {0};
    rig_open(&r, (struct embed_conf){0});
    for (int i = 0; i < EMBED_JOBS_MAX; i++) {
        (void)submit(&r, 1, 1, 7);
    }
    struct embed_job *j = make(&r, 1, 1, 7);
    assert_int_equal(embed_submit(r.q, j, &err), RC_OVERLOADED);
    embed_job_destroy(j);
    embed_end(r.q);
    while ((j = embed_next(r.q)) != NULL) {
        embed_job_destroy(j);
    }
    rig_close(&r);
}

static void a_late_job_comes_back_without_vectors(void **state)
{
    (void)state;
    struct rig r;
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 50});
    struct embed_job *late = make_until(&r, 1, 2, 7, 20);
    struct embed_job *other = make_until(&r, 1, 2, 7, 80);
    assert_int_equal(embed_submit(r.q, late, NULL), RC_OK);
    assert_int_equal(embed_submit(r.q, other, NULL), RC_OK);
    assert_int_equal(run(&r, &due_ns), 0);
    clock_fake_advance_ms(&r.clock, 30);
    assert_int_equal(run(&r, &due_ns), 0); /* the batch closes later, with the other alone */
    assert_true(embed_job_is_late(late));
    assert_null(embed_job_out(late));
    done(&r, late);
    clock_fake_advance_ms(&r.clock, 30);
    assert_int_equal(run(&r, &due_ns), 1);
    assert_false(embed_job_is_late(other));
    assert_non_null(embed_job_out(other));
    done(&r, other);
    rig_close(&r);
}

/* A clock by which 10 ms pass between any two looks. */
static uint64_t ticking_ns(const struct clock *c)
{
    struct rig *r = CONTAINER_OF(CONTAINER_OF(c, struct clock_fake, clock), struct rig, clock);
    clock_fake_advance_ms(&r->clock, 10);
    return r->clock.mono_ns;
}

static void a_deadline_that_cannot_be_met_is_refused(void **state)
{
    (void)state;
    struct rig r;
    struct err err = {0};
    uint64_t due_ns;
    rig_open(&r, (struct embed_conf){.batch_texts = 4, .batch_ms = 5});
    struct embed_job *a = make_until(&r, 4, 2, 7, 1000);
    assert_int_equal(embed_submit(r.q, a, &err), RC_OK); /* nothing is known yet */
    uint64_t (*stands)(const struct clock *c) = r.clock.clock.mono_ns;
    r.clock.clock.mono_ns = ticking_ns;
    assert_true(run(&r, &due_ns) > 0); /* 8 tokens, in 20 ms at least */
    r.clock.clock.mono_ns = stands;
    done(&r, a);
    struct embed_job *far = make_until(&r, 1, 10, 7, 1000000);
    assert_int_equal(embed_submit(r.q, far, NULL), RC_OK);
    struct embed_job *near = make_until(&r, 1, 10, 7, 2);
    assert_int_equal(embed_submit(r.q, near, &err), RC_BUSY);
    assert_in_range(err.retry_ms, 1000, 60000);
    assert_non_null(strstr(err.msg, "2 ms are left"));
    clock_fake_advance_ms(&r.clock, 2);
    assert_int_equal(embed_submit(r.q, near, &err), RC_TIMEOUT);
    embed_job_destroy(near);
    embed_end(r.q);
    done(&r, far);
    rig_close(&r);
}

/* ---- on the engine thread ---- */

static void wake_nobody(void *ctx)
{
    UNUSED(ctx);
}

static void the_engine_thread_serves_the_line(void **state)
{
    (void)state;
    struct rig r = {0};
    struct err err = {0};
    struct step *s = NULL;
    struct embed_conf conf = {.clock = clock_system(), .batch_ms = 1, .wake = wake_nobody};
    assert_int_equal(embed_create(&r.q, &conf, &err), RC_OK);
    assert_int_equal(embed_add_model(r.q, &r.m, open_engine("bert"), &err), RC_OK);
    struct step_conf step = {.clock = clock_system(), .embed = r.q, .wake = wake_nobody};
    assert_int_equal(step_create(&s, &step, &err), RC_OK);
    assert_int_equal(step_start(s, &err), RC_OK);
    for (int i = 0; i < 20; i++) {
        struct embed_job *sent = submit(&r, 1 + (uint32_t)i % 5, 4, i);
        step_ring(s);
        struct embed_job *j = NULL;
        while ((j = embed_next(r.q)) == NULL) {
            usleep(200);
        }
        assert_ptr_equal(j, sent);
        assert_non_null(embed_job_out(j));
        embed_job_destroy(j);
    }
    step_stop(s);
    step_destroy(s);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_closes_by_time),
        cmocka_unit_test(a_batch_closes_when_full),
        cmocka_unit_test(a_long_job_lets_a_short_one_by),
        cmocka_unit_test(a_cancelled_job_comes_back_without_vectors),
        cmocka_unit_test(the_end_gives_every_job_back),
        cmocka_unit_test(the_line_is_bounded),
        cmocka_unit_test(a_late_job_comes_back_without_vectors),
        cmocka_unit_test(a_deadline_that_cannot_be_met_is_refused),
        cmocka_unit_test(the_engine_thread_serves_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
