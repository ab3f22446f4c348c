/* A long mixed load on a tiny model: random lengths, classes, tenants, cancels, deadlines, slow
 * readers, shared beginnings. Every page comes back and memory stays flat. BUD_SOAK says how many
 * requests (`make soak`: 10,000). */
#include "10_module/server/step_rig.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

#define TINY_PATH "tests/golden/models/llama.gguf"

#if defined(__SANITIZE_THREAD__)
enum { SOAK_DEFAULT = 300 };
#else
enum { SOAK_DEFAULT = 1200 };
#endif

enum {
    SOAK_IN_FLIGHT = 48,
    SOAK_PROMPT_MAX = 120,
    SOAK_MEMORY_BYTES_MAX = 64 * 1024, /* more at the end than half way */
};

struct soak {
    struct rig r;
    struct rng rng;
    struct job *jobs[SOAK_IN_FLIGHT];
    uint32_t n_in_flight;
    uint32_t n_started, n_finishes[JOB_FAILED + 1];
};

static void soak_submit(struct soak *k)
{
    struct job **slot = k->jobs;
    while (*slot != NULL) {
        slot++;
    }
    int32_t prompt[SOAK_PROMPT_MAX];
    uint32_t n_vocab = engine_info(k->r.engine)->n_vocab;
    uint32_t n_shared = rng_below(&k->rng, 3) == 0 ? rng_below(&k->rng, SOAK_PROMPT_MAX) : 0;
    uint32_t text = rng_below(&k->rng, 4);
    struct job_params p = greedy(1 + rng_below(&k->rng, 40));
    p.n_prompt = 1 + rng_below(&k->rng, SOAK_PROMPT_MAX);
    for (uint32_t i = 0; i < p.n_prompt; i++) {
        prompt[i] =
            (int32_t)(i < n_shared ? (text + i * i) % n_vocab : rng_below(&k->rng, n_vocab));
    }
    char tenant[16];
    snprintf(tenant, sizeof(tenant), "t%u", rng_below(&k->rng, 6));
    p.prompt = prompt;
    p.tenant = str_from(tenant);
    p.priority = rng_below(&k->rng, 3);
    p.sample.ignore_eos = rng_below(&k->rng, 2) == 0;
    p.sample.temperature = rng_below(&k->rng, 2) == 0 ? 0 : 1;
    p.sample.seed = k->n_started;
    p.sample.want_logprob = rng_below(&k->rng, 4) == 0;
    if (rng_below(&k->rng, 30) == 0) {
        p.deadline_ns = clock_mono_ns(clock_system()) + rng_below(&k->rng, 20) * UINT64_C(1000000);
    }
    assert_int_equal(job_create(slot, &p, slot, NULL), RC_OK);
    assert_int_equal(step_submit(k->r.step, k->r.model, *slot, NULL), RC_OK);
    k->n_in_flight++;
    k->n_started++;
}

/* Takes what is new; now and then it looks away. */
static void soak_take(struct soak *k)
{
    struct job *job = step_next(k->r.step);
    if (job == NULL) {
        sem_wait(&k->r.news);
        return;
    }
    if (rng_below(&k->rng, 50) == 0) {
        usleep(rng_below(&k->rng, 2000));
    }
    struct job_update u;
    step_take(k->r.step, job, &u);
    if (u.finish == JOB_RUNNING) {
        return;
    }
    assert_true(u.finish != JOB_FAILED || u.err->code == RC_TIMEOUT || u.err->code == RC_BUSY);
    k->n_finishes[u.finish]++;
    struct job **slot = job_reader(job);
    job_destroy(job);
    *slot = NULL;
    k->n_in_flight--;
}

static void soak_run(struct soak *k, uint32_t n)
{
    uint32_t end = k->n_started + n;
    while (k->n_started < end || k->n_in_flight > 0) {
        while (k->n_started < end && k->n_in_flight < SOAK_IN_FLIGHT) {
            soak_submit(k);
        }
        soak_take(k);
        struct job *victim = k->jobs[rng_below(&k->rng, SOAK_IN_FLIGHT)];
        if (victim != NULL && rng_below(&k->rng, 60) == 0) {
            step_cancel(k->r.step, victim);
        }
    }
}

static void a_long_mixed_load_leaves_nothing_behind(void **state)
{
    (void)state;
    struct soak *k = mem_zalloc(sizeof(*k));
    struct step_stats stats;
    const char *asked = getenv("BUD_SOAK");
    uint32_t n = asked != NULL ? (uint32_t)strtoul(asked, NULL, 10) : SOAK_DEFAULT;
    rng_init(&k->rng, 17);
    rig_open_conf(&k->r, TINY_PATH, 24,
                  (struct step_conf){.running_max = 12, .aging_ms = 200, .calibrate = true});
    soak_run(k, n / 2);
    size_t half_bytes = mallinfo2().uordblks;
    soak_run(k, n - n / 2);
    size_t end_bytes = mallinfo2().uordblks;
    step_stats(k->r.step, &stats);
    print_message("%u requests: %u stop, %u length, %u cancelled, %u failed; %llu preempted, %llu "
                  "hit tokens, %llu of %llu guesses right\n",
                  k->n_started, k->n_finishes[JOB_STOP], k->n_finishes[JOB_LENGTH],
                  k->n_finishes[JOB_CANCELLED], k->n_finishes[JOB_FAILED],
                  (unsigned long long)stats.n_preempted, (unsigned long long)stats.n_hit_tokens,
                  (unsigned long long)stats.n_accepted, (unsigned long long)stats.n_drafted);
    assert_int_equal(stats.kv_pages_used, 0);
    assert_int_equal(stats.n_running + stats.n_waiting, 0);
    assert_true(stats.n_preempted > 0 && stats.n_hit_tokens > 0);
    assert_true(k->n_finishes[JOB_CANCELLED] > 0 && k->n_finishes[JOB_LENGTH] > n / 4);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(end_bytes < half_bytes + SOAK_MEMORY_BYTES_MAX);
#else
    UNUSED(half_bytes + end_bytes);
#endif
    rig_close(&k->r);
    mem_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_mixed_load_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
