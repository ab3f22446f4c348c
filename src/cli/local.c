/* local.c: see local.h. */
#include "cli/local.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "device/device.h"
#include "cli/model_path.h"
#include "server/step.h"

struct local {
    struct step *step;
    struct model *model;
    struct engine *engine; /* NULL once the step owns it */
    sem_t news;
};

/* The stop flag: a listed singleton (STYLE.md F35), set by the signal handler alone. */
static volatile sig_atomic_t local_interrupted;

static void local_on_interrupt(int signum)
{
    UNUSED(signum);
    if (local_interrupted) {
        _exit(130);
    }
    local_interrupted = 1;
}

/* ---- options ---- */

enum rc local_engine_conf(const struct args *a, struct engine_conf *out, struct err *err)
{
    *out = (struct engine_conf){.pin = true, .kv_type = DTYPE_F16};
    out->backend = args_str(a, "--backend", NULL);
    enum rc rc = args_u32(a, "--threads", 1, 1024, &out->n_threads, err);
    if (rc == RC_OK) {
        rc = args_u32(a, "--ctx", 16, 1 << 24, &out->context_tokens, err);
    }
    const char *kv = args_str(a, "--kv-type", "f16");
    if (rc == RC_OK && !backend_kv_type_parse(str_from(kv), &out->kv_type)) {
        rc = err_set(err, RC_INVALID, "--kv-type %s: known are f16, f32, bf16, q8", kv);
    }
    return rc;
}

enum rc local_job_params(const struct args *a, struct job_params *out, struct str *stops,
                         struct err *err)
{
    *out = (struct job_params){
        .sample = {.temperature = 0.7f, .top_p = 0.95f, .repetition_penalty = 1.0f},
        .stops = stops,
    };
    struct sample_params *s = &out->sample;
    crypto_random(&s->seed, sizeof(s->seed));
    const struct {
        const char *name;
        double min, max;
        float *out;
    } numbers[] = {
        {"--temp", 0, 2, &s->temperature},
        {"--top-p", 0, 1, &s->top_p},
        {"--min-p", 0, 1, &s->min_p},
        {"--repetition-penalty", 0.01, 100, &s->repetition_penalty},
    };
    enum rc rc = RC_OK;
    for (size_t i = 0; i < ARRAY_LEN(numbers) && rc == RC_OK; i++) {
        rc = args_f32(a, numbers[i].name, numbers[i].min, numbers[i].max, numbers[i].out, err);
    }
    rc = rc == RC_OK ? args_u32(a, "--top-k", 0, 1 << 24, &s->top_k, err) : rc;
    rc = rc == RC_OK ? args_u32(a, "--n-predict", 1, 1 << 24, &out->max_tokens, err) : rc;
    rc = rc == RC_OK ? args_u64(a, "--seed", 0, UINT64_MAX, &s->seed, err) : rc;
    const char *stop;
    while (rc == RC_OK && (stop = args_nth(a, "--stop", out->n_stops)) != NULL) {
        size_t len = strlen(stop);
        if (out->n_stops == STOP_STRINGS_MAX || len == 0 || len > STOP_BYTES_MAX) {
            return err_set(err, RC_INVALID, "--stop: at most %d texts of 1 to %d bytes",
                           STOP_STRINGS_MAX, STOP_BYTES_MAX);
        }
        stops[out->n_stops++] = str_make(stop, len);
    }
    return rc;
}

/* ---- opening ---- */

static void local_progress(void *ctx, uint64_t done, uint64_t total)
{
    UNUSED(ctx);
    if (total < (64u << 20)) {
        return; /* small models are there before the line can be read */
    }
    fprintf(stderr, "\rloading %3u %%", (unsigned)(100 * done / total));
    if (done == total) {
        fprintf(stderr, "\r             \r");
    }
}

static void local_wake(void *ctx)
{
    struct local *l = ctx;
    sem_post(&l->news);
}

static enum rc local_load(struct local *l, const char *path, const struct engine_conf *conf,
                          struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    enum rc rc = weight_source_open_model(sources, &n_sources, path, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct engine_conf with_progress = *conf;
    with_progress.memory_bytes_max = device_cpu_memory_bytes();
    if (isatty(STDERR_FILENO)) {
        with_progress.progress = local_progress;
    }
    rc = engine_open(&l->engine, sources, n_sources, &with_progress, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (engine_info(l->engine)->kind != ENGINE_GENERATOR) {
        return err_set(err, RC_UNSUPPORTED, "this model writes no text: use bud embed");
    }
    struct step_conf step = {
        .clock = clock_system(), .running_max = 1, .wake = local_wake, .wake_ctx = l};
    rc = step_create(&l->step, &step, err);
    rc = rc == RC_OK ? step_add_model(l->step, &l->model, l->engine, err) : rc;
    if (rc == RC_OK) {
        l->engine = NULL;
        rc = step_start(l->step, err);
    }
    return rc;
}

enum rc local_open(struct local **out, const char *model, const struct engine_conf *conf,
                   struct err *err)
{
    *out = NULL;
    char path[PATH_MAX];
    enum rc rc = model_path_find(model, path, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct local *l = mem_zalloc(sizeof(*l));
    sem_init(&l->news, 0, 0);
    rc = local_load(l, path, conf, err);
    if (rc != RC_OK) {
        local_close(l);
        return rc;
    }
    *out = l;
    return RC_OK;
}

void local_close(struct local *l)
{
    if (l == NULL) {
        return;
    }
    if (l->step != NULL) {
        step_stop(l->step);
        step_destroy(l->step);
    }
    engine_close(l->engine);
    sem_destroy(&l->news);
    mem_free(l);
}

const struct engine *local_engine(const struct local *l)
{
    return step_model_engine(l->model);
}

/* ---- generating ---- */

/* Hands updates to on_text until the job has finished. */
static enum job_finish local_follow(struct local *l, struct job *job,
                                    void (*on_text)(void *ctx, struct str text), void *ctx,
                                    struct err *err)
{
    bool told = false;
    for (;;) {
        struct job_update update = {0};
        while (step_next(l->step) != NULL) {
            step_take(l->step, job, &update);
            if (update.text.len > 0) {
                on_text(ctx, update.text);
            }
            if (update.finish == JOB_FAILED) {
                *err = *update.err;
            }
            if (update.finish != JOB_RUNNING) {
                return update.finish;
            }
        }
        if (local_interrupted && !told) {
            told = true;
            step_cancel(l->step, job);
        }
        /* A signal interrupts the wait; so does news. */
        (void)sem_wait(&l->news);
    }
}

enum rc local_generate(struct local *l, const struct job_params *params,
                       void (*on_text)(void *ctx, struct str text), void *ctx,
                       enum job_finish *finish, struct err *err)
{
    struct job *job = NULL;
    enum rc rc = job_create(&job, params, NULL, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct sigaction action = {.sa_handler = local_on_interrupt};
    struct sigaction before;
    local_interrupted = 0;
    sigaction(SIGINT, &action, &before);
    rc = step_submit(l->step, l->model, job, err);
    if (rc == RC_OK) {
        struct err why = {0};
        *finish = local_follow(l, job, on_text, ctx, &why);
        if (*finish == JOB_FAILED) {
            rc = err_set(err, why.code, "%s", why.msg);
        }
    }
    sigaction(SIGINT, &before, NULL);
    job_destroy(job);
    return rc;
}
