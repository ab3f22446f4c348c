/* lane.h: one model on the engine thread: its sequences, pages and scheduler, and a step of them.
 *
 *   sched_plan ──> copies ──> batch ──> engine_forward ──> sampler ──> emit
 *                                             └──> cost_observe
 *
 * Everything is called on the engine thread, but lane_create, lane_destroy and lane_engine. */
#ifndef SERVER_LANE_H
#define SERVER_LANE_H

#include "base/clock.h"
#include "base/ring.h"
#include "engine/engine.h"
#include "server/job.h"
#include "server/sched.h"

struct lane_conf {
    const struct clock *clock;
    uint32_t running_max, tenant_running_max, waiting_max;
    uint64_t budget_ns, waiting_ns_max, aging_ns;
    bool prefix_cache, speculation, calibrate;
    struct ring *updates; /* of jobs with news */
};

struct lane; /* opaque */

/* Takes the engine over on success. */
RC lane_create(struct lane **out, const struct lane_conf *conf, struct engine *engine,
               struct err *err);
/* No sequence may be left. Closes the engine. NULL is allowed. */
void lane_destroy(struct lane *l);
const struct engine *lane_engine(const struct lane *l);
/* Before the first step: its metrics bear this name; without one there are none. */
void lane_set_name(struct lane *l, struct str name);

/* Times the engine, if it is so configured. */
void lane_calibrate(struct lane *l, const _Atomic bool *cancel);
/* Puts a job in line, or finishes it as failed. */
void lane_take_job(struct lane *l, struct job *job);
/* What readers asked for, and deadlines that have passed. */
void lane_look_at_jobs(struct lane *l);
/* Whether any sequence is here. */
bool lane_is_busy(const struct lane *l);
/* Whether a deadline runs. */
bool lane_has_deadlines(const struct lane *l);
/* One step; n_busy lanes share the time. False when there was nothing to run. */
bool lane_step(struct lane *l, uint32_t n_busy, const _Atomic bool *cancel);
/* Ends every sequence. */
void lane_fail_all(struct lane *l, const struct err *why);
/* Whether jobs have news since the last call. */
MUST_CHECK bool lane_take_news(struct lane *l);

struct lane_stats {
    uint64_t n_steps, n_prompt_tokens, n_output_tokens;
    uint64_t n_drafted, n_accepted; /* guessed tokens that were checked; that were right */
    struct sched_counts sched;
    uint32_t n_running, n_waiting, kv_pages_used, kv_pages_total;
};
void lane_get_stats(const struct lane *l, struct lane_stats *out);

#endif
