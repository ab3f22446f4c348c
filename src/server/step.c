/* step.c: the engine thread (picture in step.h).
 *
 * A turn: new jobs in → cancelled and caught-up jobs looked at → for each model: plan, forward,
 * sample, emit → figures out. With nothing to run it sleeps on a semaphore that every reader call
 * posts. */
#include "server/step.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "base/assert.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "base/thread.h"
#include "server/batch.h"

enum {
    STEP_RUNNING_DEFAULT = 16,
    STEP_WAITING_DEFAULT = 256,
    STEP_PREFILL_ROWS_DEFAULT = 64,
};

struct model {
    struct engine *engine;
    struct kv_pages pages;
    struct prefix prefix;
    struct sched sched;
    struct batch batch;
    struct sched_row *rows; /* room for running_max */
    struct list live;       /* every seq */
};

struct step {
    struct step_conf conf;
    struct model *models[STEP_MODELS_MAX];
    uint32_t n_models;
    uint32_t jobs_max;
    uint32_t n_jobs; /* the reader's: submitted, finish not yet taken */
    struct ring inbox, updates;
    sem_t bell;
    struct thread thread;
    _Atomic bool stopping;
    bool news; /* engine thread: something was put since the last wake */
    _Atomic uint64_t n_steps, n_prompt_tokens, n_output_tokens, n_preempted, last_step_ns;
    _Atomic uint64_t n_looked_up_tokens, n_hit_tokens;
    _Atomic uint32_t n_running, n_waiting, n_pages_used, n_pages_total;
};

/* ---- setting up ---- */

enum rc step_create(struct step **out, const struct step_conf *conf, struct err *err)
{
    *out = NULL;
    struct step *s = mem_zalloc(sizeof(*s));
    s->conf = *conf;
    s->conf.running_max = conf->running_max != 0 ? conf->running_max : STEP_RUNNING_DEFAULT;
    s->conf.waiting_max = conf->waiting_max != 0 ? conf->waiting_max : STEP_WAITING_DEFAULT;
    s->conf.prefill_rows_max =
        conf->prefill_rows_max != 0 ? conf->prefill_rows_max : STEP_PREFILL_ROWS_DEFAULT;
    if (sem_init(&s->bell, 0, 0) != 0) {
        mem_free(s);
        return err_set(err, RC_IO, "cannot make a semaphore: %m");
    }
    s->jobs_max = (s->conf.running_max + s->conf.waiting_max) * STEP_MODELS_MAX;
    ring_init(&s->inbox, s->jobs_max);
    ring_init(&s->updates, s->jobs_max);
    *out = s;
    return RC_OK;
}

enum rc step_add_model(struct step *s, struct model **out, struct engine *engine, struct err *err)
{
    ASSERT(!s->thread.started);
    *out = NULL;
    if (s->n_models == STEP_MODELS_MAX) {
        return err_set(err, RC_TOO_LARGE, "at most %d models in one server", STEP_MODELS_MAX);
    }
    const struct engine_info *info = engine_info(engine);
    struct model *m = mem_zalloc(sizeof(*m));
    struct sched_conf conf = {
        .rows_max = info->batch_tokens_max,
        .prefill_rows_max = MIN(s->conf.prefill_rows_max, info->batch_tokens_max),
        .running_max = MIN(s->conf.running_max, info->batch_tokens_max),
        .waiting_max = s->conf.waiting_max,
    };
    enum rc rc = batch_init(&m->batch, conf.rows_max, conf.running_max, info->n_vocab, err);
    if (rc != RC_OK) {
        mem_free(m);
        return rc;
    }
    m->engine = engine;
    m->rows = mem_zalloc_array(conf.running_max, sizeof(*m->rows));
    kv_pages_init(&m->pages, info->kv_pages);
    struct prefix_conf prefix = {.on = !s->conf.no_prefix_cache};
    crypto_random(&prefix.seed, sizeof(prefix.seed));
    prefix_init(&m->prefix, &prefix, &m->pages);
    sched_init(&m->sched, &conf, &m->pages, &m->prefix);
    list_init(&m->live);
    atomic_fetch_add(&s->n_pages_total, info->kv_pages);
    s->models[s->n_models++] = m;
    *out = m;
    return RC_OK;
}

const struct engine *step_model_engine(const struct model *m)
{
    return m->engine;
}

/* ---- jobs in and out, engine thread ---- */

/* Takes a sequence out of everything and gives its job back to the reader. */
static void step_end_seq(struct step *s, struct model *m, struct seq *q, enum job_finish finish,
                         const struct err *why)
{
    struct job *job = q->job;
    sched_remove(&m->sched, &q->sched);
    list_remove(&q->live);
    seq_destroy(q);
    job_finish(job, finish, why, &s->updates);
    s->news = true;
}

static void step_take_job(struct step *s, struct job *job)
{
    struct model *m = job->model;
    struct seq *q = NULL;
    struct err err = {0};
    enum rc rc = seq_create(&q, job, m->engine, &err);
    if (rc == RC_OK) {
        q->sched.root = prefix_root(&m->prefix, job->params.tenant);
    }
    if (rc == RC_OK && !sched_submit(&m->sched, &q->sched)) {
        rc = err_set(&err, RC_OVERLOADED, "too many requests are waiting");
        seq_destroy(q);
    }
    if (rc != RC_OK) {
        job_finish(job, JOB_FAILED, &err, &s->updates);
        s->news = true;
        return;
    }
    list_push_back(&m->live, &q->live);
}

static void step_take_jobs(struct step *s)
{
    struct job *job;
    while ((job = ring_pop(&s->inbox)) != NULL) {
        step_take_job(s, job);
    }
}

/* What readers asked for since the last step. */
static void step_look_at_jobs(struct step *s, struct model *m)
{
    LIST_EACH(&m->live, node)
    {
        struct seq *q = LIST_ENTRY(node, struct seq, live);
        if (atomic_load_explicit(&q->job->cancelled, memory_order_relaxed)) {
            step_end_seq(s, m, q, JOB_CANCELLED, NULL);
        } else if (q->sched.paused && job_has_caught_up(q->job)) {
            q->sched.paused = false;
        }
    }
}

/* ---- one step of one model ---- */

static void step_sample(struct step *s, struct model *m, struct seq *q, float *logits)
{
    struct sample_result sampled;
    if (q->n_output == 0) {
        job_set_cached(q->job, q->sched.n_hit);
    }
    sampler_next(q->sampler, logits, &sampled);
    q->tokens[q->sched.n_tokens++] = sampled.token;
    q->n_output++;
    s->news = true;
    uint64_t now_ns = clock_mono_ns(s->conf.clock);
    enum emit_result result = emit_token(&q->emit, &sampled, now_ns, &s->updates);
    if (result == EMIT_STOP) {
        step_end_seq(s, m, q, JOB_STOP, NULL);
    } else if (q->n_output == q->job->params.max_tokens) {
        emit_flush(&q->emit, now_ns, &s->updates);
        step_end_seq(s, m, q, JOB_LENGTH, NULL);
    } else {
        q->sched.paused = result == EMIT_SLOW;
    }
}

static void step_fail_all(struct step *s, struct model *m, const struct err *why)
{
    enum job_finish finish = why->code == RC_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
    LIST_EACH(&m->live, node)
    {
        step_end_seq(s, m, LIST_ENTRY(node, struct seq, live), finish, why);
    }
}

/* False when there was nothing to run. */
static bool step_run(struct step *s, struct model *m)
{
    uint32_t n = sched_plan(&m->sched, m->rows);
    if (n == 0) {
        return false;
    }
    const struct engine_batch *b = batch_fill(&m->batch, m->rows, n);
    struct err err = {0};
    if (engine_forward(m->engine, b, &s->stopping, &err) != RC_OK) {
        step_fail_all(s, m, &err);
        prefix_clear(&m->prefix);
        return true;
    }
    sched_done(&m->sched, m->rows, n);
    uint32_t n_results = batch_n_results(&m->batch);
    for (uint32_t i = 0; i < n_results; i++) {
        float *logits = NULL;
        struct seq *q = batch_result(&m->batch, i, &logits);
        step_sample(s, m, q, logits);
    }
    atomic_fetch_add_explicit(&s->n_steps, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->n_output_tokens, n_results, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->n_prompt_tokens, b->n_tokens - n_results, memory_order_relaxed);
    atomic_store_explicit(&s->last_step_ns, clock_mono_ns(s->conf.clock), memory_order_relaxed);
    return true;
}

/* ---- the thread ---- */

static void step_publish(struct step *s)
{
    uint32_t running = 0;
    uint32_t waiting = 0;
    uint32_t used = 0;
    struct sched_counts counts = {0};
    for (uint32_t i = 0; i < s->n_models; i++) {
        const struct model *m = s->models[i];
        running += sched_n_running(&m->sched);
        waiting += sched_n_waiting(&m->sched);
        counts.n_preempted += sched_counts(&m->sched)->n_preempted;
        counts.n_looked_up_tokens += sched_counts(&m->sched)->n_looked_up_tokens;
        counts.n_hit_tokens += sched_counts(&m->sched)->n_hit_tokens;
        used += kv_pages_total(&m->pages) - kv_pages_left(&m->pages);
    }
    atomic_store_explicit(&s->n_running, running, memory_order_relaxed);
    atomic_store_explicit(&s->n_waiting, waiting, memory_order_relaxed);
    atomic_store_explicit(&s->n_pages_used, used, memory_order_relaxed);
    atomic_store_explicit(&s->n_preempted, counts.n_preempted, memory_order_relaxed);
    atomic_store_explicit(&s->n_looked_up_tokens, counts.n_looked_up_tokens, memory_order_relaxed);
    atomic_store_explicit(&s->n_hit_tokens, counts.n_hit_tokens, memory_order_relaxed);
    if (s->news) {
        s->news = false;
        s->conf.wake(s->conf.wake_ctx);
    }
}

/* Until a reader has something, or until `due_ns`. */
static void step_sleep(struct step *s, uint64_t due_ns)
{
    if (due_ns == UINT64_MAX) {
        while (sem_wait(&s->bell) != 0 && errno == EINTR) {}
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(due_ns / UINT64_C(1000000000)),
                             .tv_nsec = (long)(due_ns % UINT64_C(1000000000))};
    while (sem_clockwait(&s->bell, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR) {}
}

static void step_turn(struct step *s)
{
    bool ran = false;
    uint64_t due_ns = UINT64_MAX;
    step_take_jobs(s);
    for (uint32_t i = 0; i < s->n_models; i++) {
        step_look_at_jobs(s, s->models[i]);
        ran |= step_run(s, s->models[i]);
    }
    ran |= s->conf.embed != NULL && embed_turn(s->conf.embed, &due_ns);
    step_publish(s);
    if (!ran) {
        step_sleep(s, due_ns);
    }
}

static void step_main(void *arg)
{
    struct step *s = arg;
    while (!atomic_load(&s->stopping)) {
        step_turn(s);
    }
    step_take_jobs(s);
    struct err why = {.code = RC_CANCELLED};
    for (uint32_t i = 0; i < s->n_models; i++) {
        step_fail_all(s, s->models[i], &why);
    }
    if (s->conf.embed != NULL) {
        embed_end(s->conf.embed);
    }
    step_publish(s);
}

enum rc step_start(struct step *s, struct err *err)
{
    if (thread_start(&s->thread, "bud-engine", -1, step_main, s) != RC_OK) {
        return err_set(err, RC_NOMEM, "cannot start the engine thread");
    }
    return RC_OK;
}

void step_stop(struct step *s)
{
    atomic_store(&s->stopping, true);
    sem_post(&s->bell);
    thread_join(&s->thread);
}

void step_destroy(struct step *s)
{
    if (s == NULL) {
        return;
    }
    ASSERT(!s->thread.started);
    ASSERT(s->n_jobs == 0);
    for (uint32_t i = 0; i < s->n_models; i++) {
        struct model *m = s->models[i];
        sched_deinit(&m->sched);
        prefix_deinit(&m->prefix);
        kv_pages_deinit(&m->pages);
        batch_deinit(&m->batch);
        mem_free(m->rows);
        engine_close(m->engine);
        mem_free(m);
    }
    ring_deinit(&s->inbox);
    ring_deinit(&s->updates);
    sem_destroy(&s->bell);
    mem_free(s);
}

/* ---- the reader's end ---- */

enum rc step_submit(struct step *s, struct model *m, struct job *j, struct err *err)
{
    if (atomic_load(&s->stopping)) {
        return err_set(err, RC_UNAVAILABLE, "the server is stopping");
    }
    if (s->n_jobs == s->jobs_max) {
        return err_set(err, RC_OVERLOADED, "too many requests are waiting");
    }
    j->model = m;
    bool pushed = ring_push(&s->inbox, j);
    ASSERT(pushed); /* the inbox has room for jobs_max */
    s->n_jobs++;
    sem_post(&s->bell);
    return RC_OK;
}

void step_cancel(struct step *s, struct job *j)
{
    atomic_store_explicit(&j->cancelled, true, memory_order_relaxed);
    sem_post(&s->bell);
}

void step_ring(struct step *s)
{
    sem_post(&s->bell);
}

struct job *step_next(struct step *s)
{
    return ring_pop(&s->updates);
}

void step_take(struct step *s, struct job *j, struct job_update *out)
{
    bool was_paused = job_take(j, out);
    if (was_paused) {
        sem_post(&s->bell); /* the engine may sleep with nothing else to run */
    }
    if (out->finish != JOB_RUNNING) {
        ASSERT(s->n_jobs > 0);
        s->n_jobs--;
    }
}

void step_stats(const struct step *s, struct step_stats *out)
{
    *out = (struct step_stats){
        .n_steps = atomic_load_explicit(&s->n_steps, memory_order_relaxed),
        .n_prompt_tokens = atomic_load_explicit(&s->n_prompt_tokens, memory_order_relaxed),
        .n_output_tokens = atomic_load_explicit(&s->n_output_tokens, memory_order_relaxed),
        .n_preempted = atomic_load_explicit(&s->n_preempted, memory_order_relaxed),
        .n_looked_up_tokens = atomic_load_explicit(&s->n_looked_up_tokens, memory_order_relaxed),
        .n_hit_tokens = atomic_load_explicit(&s->n_hit_tokens, memory_order_relaxed),
        .n_running = atomic_load_explicit(&s->n_running, memory_order_relaxed),
        .n_waiting = atomic_load_explicit(&s->n_waiting, memory_order_relaxed),
        .kv_pages_used = atomic_load_explicit(&s->n_pages_used, memory_order_relaxed),
        .kv_pages_total = atomic_load_explicit(&s->n_pages_total, memory_order_relaxed),
        .last_step_ns = atomic_load_explicit(&s->last_step_ns, memory_order_relaxed),
    };
}
