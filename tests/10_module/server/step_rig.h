/* step_rig.h: an engine thread with the model that ships, and answers taken from it, for tests. */
#ifndef TESTS_STEP_RIG_H
#define TESTS_STEP_RIG_H

#include "check.h"

#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "server/step.h"

#define MODEL_PATH "models/bud-story-4m.gguf"

struct rig {
    struct step *step;
    struct model *model;
    const struct engine *engine;
    sem_t news;
    struct arena arena;
};

struct answer {
    struct job *job;
    struct buf text;
    uint32_t n_output, n_tokens, n_prompt, n_cached;
    uint64_t tokens_hash; /* of ids and log-probabilities, bit by bit */
    struct err err;
    enum job_finish finish;
};

static inline void rig_wake(void *ctx)
{
    sem_post(&((struct rig *)ctx)->news);
}

/* What `conf` leaves open is filled in: the clock, the wake-up. */
static inline void rig_open_conf(struct rig *r, const char *path, uint32_t kv_pages,
                                 struct step_conf conf)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n = 0;
    struct engine *engine;
    struct err err = {0};
    check_need_file(path);
    memset(r, 0, sizeof(*r));
    sem_init(&r->news, 0, 0);
    arena_init(&r->arena, 1 << 24);
    assert_int_equal(weight_source_open_model(sources, &n, path, &err), RC_OK);
    struct engine_conf engine_conf = {.n_threads = 1,
                                      .context_tokens = MIN(256u, kv_pages * 32),
                                      .kv_pages = kv_pages,
                                      .kv_type = DTYPE_F16};
    assert_int_equal(engine_open(&engine, sources, n, &engine_conf, &err), RC_OK);
    conf.clock = conf.clock != NULL ? conf.clock : clock_system();
    conf.waiting_ms_max = 3600000; /* sanitizers make the engine slow: nobody is refused for it */
    conf.wake = rig_wake;
    conf.wake_ctx = r;
    assert_int_equal(step_create(&r->step, &conf, &err), RC_OK);
    assert_int_equal(step_add_model(r->step, &r->model, engine, &err), RC_OK);
    r->engine = engine;
    assert_int_equal(step_start(r->step, &err), RC_OK);
}

static inline void rig_open(struct rig *r, uint32_t kv_pages, uint32_t running_max)
{
    rig_open_conf(r, MODEL_PATH, kv_pages, (struct step_conf){.running_max = running_max});
}

static inline void rig_close(struct rig *r)
{
    step_stop(r->step);
    step_destroy(r->step);
    arena_deinit(&r->arena);
    sem_destroy(&r->news);
}

static inline void rig_submit(struct rig *r, struct answer *a, const char *prompt,
                              struct job_params params)
{
    struct token_list tokens;
    struct encode_options opt = {.add_special = true, .parse_special = true};
    memset(a, 0, sizeof(*a));
    buf_init(&a->text, 1 << 20);
    assert_int_equal(
        vocab_encode(engine_vocab(r->engine), str_from(prompt), opt, &r->arena, &tokens, NULL),
        RC_OK);
    params.prompt = tokens.ids;
    params.n_prompt = tokens.n;
    assert_int_equal(job_create(&a->job, &params, a, NULL), RC_OK);
    assert_int_equal(step_submit(r->step, r->model, a->job, NULL), RC_OK);
}

/* Takes updates until `n` answers have finished. */
static inline void rig_finish(struct rig *r, uint32_t n)
{
    while (n > 0) {
        struct job *job = step_next(r->step);
        if (job == NULL) {
            sem_wait(&r->news);
            continue;
        }
        struct answer *a = job_reader(job);
        struct job_update u;
        step_take(r->step, job, &u);
        buf_add_str(&a->text, u.text);
        a->n_output = u.n_output;
        a->n_prompt = u.n_prompt;
        a->n_cached = u.n_cached;
        a->n_tokens += u.n_tokens;
        for (uint32_t i = 0; i < u.n_tokens; i++) {
            uint32_t bits;
            memcpy(&bits, &u.tokens[i].logprob, sizeof(bits));
            a->tokens_hash = hash_u64(a->tokens_hash * 31 + (uint32_t)u.tokens[i].id) + bits;
        }
        if (u.err != NULL) {
            a->err = *u.err;
        }
        a->finish = u.finish;
        if (u.finish != JOB_RUNNING) {
            job_destroy(job);
            a->job = NULL;
            n--;
        }
    }
}

static inline struct job_params greedy(uint32_t max_tokens)
{
    return (struct job_params){
        .max_tokens = max_tokens,
        .sample = {.top_p = 1, .repetition_penalty = 1},
    };
}

#endif
