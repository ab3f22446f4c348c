/* step.c: the engine thread (picture in step.h).
 *
 * A turn: new jobs in → cancelled, late and caught-up jobs looked at → a step of each model
 * (lane.h) → figures out. With nothing to run it sleeps on a semaphore that every reader call
 * posts. */
#include "server/step.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/thread.h"
#include "server/job_engine.h"
#include "server/lane.h"

enum {
    STEP_RUNNING_DEFAULT = 16,
    STEP_WAITING_DEFAULT = 256,
    STEP_WAITING_MS_DEFAULT = 60000,
    STEP_BUDGET_MS_DEFAULT = 100,
    STEP_AGING_MS_DEFAULT = 10000,
    STEP_DEADLINE_MS = 50, /* between looks at the clock when nothing runs */
};

struct model {
    struct lane *lane;
};

struct step {
    struct step_conf conf;
    struct model models[STEP_MODELS_MAX];
    uint32_t n_models;
    uint32_t jobs_max;
    uint32_t n_jobs; /* the reader's: submitted, finish not yet taken */
    struct ring inbox, updates;
    sem_t bell;
    struct thread thread;
    _Atomic bool stopping;
    uint64_t last_step_ns;
    pthread_mutex_t stats_lock;
    struct step_stats stats; /* under the lock */
};

/* ---- setting up ---- */

static uint32_t step_or(uint32_t value, uint32_t fallback)
{
    return value != 0 ? value : fallback;
}

enum rc step_create(struct step **out, const struct step_conf *conf, struct err *err)
{
    *out = NULL;
    struct step *s = mem_zalloc(sizeof(*s));
    s->conf = *conf;
    s->conf.running_max = step_or(conf->running_max, STEP_RUNNING_DEFAULT);
    s->conf.waiting_max = step_or(conf->waiting_max, STEP_WAITING_DEFAULT);
    s->conf.waiting_ms_max = step_or(conf->waiting_ms_max, STEP_WAITING_MS_DEFAULT);
    s->conf.budget_ms = step_or(conf->budget_ms, STEP_BUDGET_MS_DEFAULT);
    s->conf.aging_ms = step_or(conf->aging_ms, STEP_AGING_MS_DEFAULT);
    if (sem_init(&s->bell, 0, 0) != 0) {
        mem_free(s);
        return err_set(err, RC_IO, "cannot make a semaphore: %m");
    }
    pthread_mutex_init(&s->stats_lock, NULL);
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
    struct lane_conf conf = {
        .clock = s->conf.clock,
        .running_max = s->conf.running_max,
        .tenant_running_max = s->conf.tenant_running_max,
        .waiting_max = s->conf.waiting_max,
        .budget_ns = s->conf.budget_ms * UINT64_C(1000000),
        .waiting_ns_max = s->conf.waiting_ms_max * UINT64_C(1000000),
        .aging_ns = s->conf.aging_ms * UINT64_C(1000000),
        .prefix_cache = !s->conf.no_prefix_cache,
        .speculation = !s->conf.no_speculation,
        .calibrate = s->conf.calibrate,
        .updates = &s->updates,
    };
    struct model *m = &s->models[s->n_models];
    enum rc rc = lane_create(&m->lane, &conf, engine, err);
    if (rc == RC_OK) {
        s->stats.kv_pages_total += engine_info(engine)->kv_pages;
        s->n_models++;
        *out = m;
    }
    return rc;
}

void step_name_model(struct model *m, struct str name)
{
    lane_set_name(m->lane, name);
}

const struct engine *step_model_engine(const struct model *m)
{
    return lane_engine(m->lane);
}

/* ---- the thread ---- */

static void step_take_jobs(struct step *s)
{
    struct job *job;
    while ((job = ring_pop(&s->inbox)) != NULL) {
        lane_take_job(((struct model *)job->model)->lane, job);
    }
}

static void step_sum_stats(const struct step *s, struct step_stats *sum)
{
    for (uint32_t i = 0; i < s->n_models; i++) {
        struct lane_stats l;
        lane_get_stats(s->models[i].lane, &l);
        sum->n_steps += l.n_steps;
        sum->n_prompt_tokens += l.n_prompt_tokens;
        sum->n_output_tokens += l.n_output_tokens;
        sum->n_preempted += l.sched.n_preempted;
        sum->n_looked_up_tokens += l.sched.n_looked_up_tokens;
        sum->n_hit_tokens += l.sched.n_hit_tokens;
        sum->n_drafted += l.n_drafted;
        sum->n_accepted += l.n_accepted;
        sum->n_running += l.n_running;
        sum->n_waiting += l.n_waiting;
        sum->kv_pages_used += l.kv_pages_used;
        sum->kv_pages_total += l.kv_pages_total;
    }
}

static void step_publish(struct step *s)
{
    struct step_stats sum = {.last_step_ns = s->last_step_ns};
    bool news = false;
    step_sum_stats(s, &sum);
    pthread_mutex_lock(&s->stats_lock);
    s->stats = sum;
    pthread_mutex_unlock(&s->stats_lock);
    for (uint32_t i = 0; i < s->n_models; i++) {
        news |= lane_take_news(s->models[i].lane);
    }
    if (news) {
        s->conf.wake(s->conf.wake_ctx);
    }
}

/* Until a reader has something, or until `due_ns`; deadlines are looked at now and then. */
static void step_sleep(struct step *s, uint64_t due_ns)
{
    uint64_t look_ns = clock_mono_ns(s->conf.clock) + STEP_DEADLINE_MS * UINT64_C(1000000);
    for (uint32_t i = 0; i < s->n_models; i++) {
        due_ns = lane_has_deadlines(s->models[i].lane) ? MIN(due_ns, look_ns) : due_ns;
    }
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
    uint32_t n_busy = 0;
    uint64_t due_ns = UINT64_MAX;
    step_take_jobs(s);
    for (uint32_t i = 0; i < s->n_models; i++) {
        lane_look_at_jobs(s->models[i].lane);
        n_busy += lane_is_busy(s->models[i].lane) ? 1 : 0;
    }
    for (uint32_t i = 0; i < s->n_models; i++) {
        if (lane_step(s->models[i].lane, n_busy, &s->stopping)) {
            s->last_step_ns = clock_mono_ns(s->conf.clock);
            ran = true;
        }
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
    for (uint32_t i = 0; i < s->n_models; i++) {
        lane_calibrate(s->models[i].lane, &s->stopping);
    }
    while (!atomic_load(&s->stopping)) {
        step_turn(s);
    }
    step_take_jobs(s);
    struct err why = {.code = RC_CANCELLED};
    for (uint32_t i = 0; i < s->n_models; i++) {
        lane_fail_all(s->models[i].lane, &why);
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
        lane_destroy(s->models[i].lane);
    }
    ring_deinit(&s->inbox);
    ring_deinit(&s->updates);
    sem_destroy(&s->bell);
    pthread_mutex_destroy(&s->stats_lock);
    mem_free(s);
}

/* ---- the reader's end ---- */

enum rc step_submit(struct step *s, struct model *m, struct job *j, struct err *err)
{
    if (atomic_load(&s->stopping)) {
        return err_set(err, RC_UNAVAILABLE, "the server is stopping");
    }
    if (s->n_jobs == s->jobs_max) {
        return err_set(err, RC_BUSY, "The server is busy: too many requests are waiting.");
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

void step_stats(struct step *s, struct step_stats *out)
{
    pthread_mutex_lock(&s->stats_lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->stats_lock);
}
