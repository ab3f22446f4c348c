/* step.h: the engine thread: takes jobs, plans, runs batches, samples, tells.
 *
 *   reader ──step_submit──> [ring] ──> sched ──plan──> batch ──> engine_forward ──> sampler
 *     ^                                                                               │
 *     └── step_next <── [ring of updates] <── job (text, tokens, finish) <── emit <───┘
 *
 * One reader thread, one engine thread; the two rings and the jobs' locks are all that they share.
 */
#ifndef SERVER_STEP_H
#define SERVER_STEP_H

#include "base/clock.h"
#include "engine/engine.h"
#include "server/embed.h"
#include "server/job.h"

enum { STEP_MODELS_MAX = 16 };

struct step_conf {
    const struct clock *clock;
    uint32_t running_max;        /* sequences decoded together, per model; 0 = 16 */
    uint32_t tenant_running_max; /* … of one tenant; 0 = all */
    uint32_t waiting_max;        /* jobs in line, per model; 0 = 256 */
    uint32_t waiting_ms_max;     /* predicted time to the first token; 0 = 60,000 */
    uint32_t budget_ms;          /* of a step while somebody decodes; 0 = 100 */
    uint32_t aging_ms;           /* of waiting, for the next better class; 0 = 10,000 */
    bool no_prefix_cache, no_speculation;
    bool calibrate;      /* time the engines at the start; else the cost model only learns */
    struct embed *embed; /* gets a slice of each turn; may be NULL; outlives the thread */
    /* Called on the engine thread when step_next has something new; must not block. */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

struct step;  /* opaque */
struct model; /* one loaded model of it; opaque */

/* No thread yet. */
RC step_create(struct step **out, const struct step_conf *conf, struct err *err);
/* Before step_start. Takes the engine over on success. */
RC step_add_model(struct step *s, struct model **out, struct engine *engine, struct err *err);
/* Before step_start: the model's metrics bear this name; without one it has none. */
void step_name_model(struct model *m, struct str name);
RC step_start(struct step *s, struct err *err);
/* Ends the thread; unfinished jobs finish as JOB_CANCELLED, and step_next still hands them out. */
void step_stop(struct step *s);
/* After step_stop. Closes the engines. Every job must have been taken. NULL is allowed. */
void step_destroy(struct step *s);

const struct engine *step_model_engine(const struct model *m);

/* Reader thread. RC_BUSY when too many jobs are here, RC_UNAVAILABLE after step_stop; the job stays
 * the caller's then. What the scheduler refuses (RC_BUSY: the line is full, the wait too long, the
 * deadline too near) finishes as JOB_FAILED. Prompt + max_tokens must fit the model's context and
 * its pages (asserted; see prompt_check_length). */
RC step_submit(struct step *s, struct model *m, struct job *j, struct err *err);
/* Reader thread. The work ends within one step; the finish still comes as an update. */
void step_cancel(struct step *s, struct job *j);
/* Reader thread. Something was put in conf.embed. */
void step_ring(struct step *s);
/* Reader thread. The next job with news, or NULL. */
struct job *step_next(struct step *s);
/* Reader thread. Takes the news of a job that step_next gave; until then the job is not given
 * again, and its sequence pauses once enough is pending. Taking lets it go on. */
void step_take(struct step *s, struct job *j, struct job_update *out);

/* Sums over the models. */
struct step_stats {
    uint64_t n_steps, n_prompt_tokens, n_output_tokens, n_preempted;
    uint64_t n_looked_up_tokens, n_hit_tokens; /* in the prefix cache */
    uint64_t n_drafted, n_accepted;            /* tokens of speculation */
    uint32_t n_running, n_waiting, kv_pages_used, kv_pages_total;
    uint64_t last_step_ns; /* monotonic time when the last step ended */
};
/* Any thread; figures may be of neighbouring steps. */
void step_stats(struct step *s, struct step_stats *out);

#endif
