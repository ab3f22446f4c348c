/* lane.c: see lane.h. */
#include "server/lane.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "server/admit.h"
#include "server/batch.h"
#include "server/calibrate.h"
#include "server/lane_metric.h"

enum { LANE_DRAFT_ROWS_MAX = 64 }; /* guesses of one step, over all sequences */

struct lane {
    struct lane_conf conf;
    struct engine *engine;
    struct kv_pages pages;
    struct prefix prefix;
    struct fair fair;
    struct cost cost;
    struct sched sched;
    struct batch batch;
    struct list live; /* every seq */
    struct lane_metric metric;
    struct lane_stats stats; /* the counters of it */
    uint32_t n_deadlines;
    bool news;
};

/* ---- making ---- */

static struct sched_conf lane_sched_conf(const struct lane_conf *conf,
                                         const struct engine_info *info)
{
    uint32_t running_max = MIN(conf->running_max, info->batch_tokens_max);
    return (struct sched_conf){
        .rows_max = info->batch_tokens_max,
        .logits_max = running_max + (conf->speculation ? LANE_DRAFT_ROWS_MAX : 0),
        .running_max = running_max,
        .tenant_running_max = conf->tenant_running_max,
        .waiting_max = conf->waiting_max,
        .aging_ns = conf->aging_ns,
        .copies = true,
    };
}

enum rc lane_create(struct lane **out, const struct lane_conf *conf, struct engine *engine,
                    struct err *err)
{
    *out = NULL;
    const struct engine_info *info = engine_info(engine);
    struct sched_conf sched = lane_sched_conf(conf, info);
    struct batch_limits limits = {
        .rows_max = sched.rows_max,
        .seqs_max = sched.running_max,
        .logits_max = sched.logits_max,
        .n_vocab = info->n_vocab,
    };
    struct lane *l = mem_zalloc(sizeof(*l));
    enum rc rc = batch_init(&l->batch, &limits, err);
    if (rc != RC_OK) {
        mem_free(l);
        return rc;
    }
    l->conf = *conf;
    l->engine = engine;
    uint64_t seeds[2];
    crypto_random(seeds, sizeof(seeds));
    kv_pages_init(&l->pages, info->kv_pages);
    prefix_init(&l->prefix, &(struct prefix_conf){conf->prefix_cache, seeds[0]}, &l->pages);
    fair_init(&l->fair, seeds[1]);
    cost_init(&l->cost);
    sched_init(&l->sched, &sched, &l->prefix, &l->cost);
    list_init(&l->live);
    *out = l;
    return RC_OK;
}

void lane_destroy(struct lane *l)
{
    if (l == NULL) {
        return;
    }
    sched_deinit(&l->sched);
    fair_deinit(&l->fair);
    prefix_deinit(&l->prefix);
    kv_pages_deinit(&l->pages);
    batch_deinit(&l->batch);
    engine_close(l->engine);
    mem_free(l);
}

const struct engine *lane_engine(const struct lane *l)
{
    return l->engine;
}

void lane_set_name(struct lane *l, struct str name)
{
    lane_metric_init(&l->metric, name);
}

void lane_calibrate(struct lane *l, const _Atomic bool *cancel)
{
    if (l->conf.calibrate) {
        calibrate_run(l->engine, l->conf.clock, cancel, &l->cost);
    }
}

/* ---- jobs ---- */

static void lane_finish_job(struct lane *l, struct job *job, enum job_finish finish,
                            const struct err *why)
{
    l->n_deadlines -= job->params.deadline_ns != 0 ? 1 : 0;
    job_finish(job, finish, why, l->conf.updates);
    lane_metric_finish(&l->metric, finish);
    l->news = true;
}

/* Takes a sequence out of everything and gives its job back to the reader. */
static void lane_end_seq(struct lane *l, struct seq *q, enum job_finish finish,
                         const struct err *why)
{
    struct job *job = q->job;
    sched_remove(&l->sched, &q->sched);
    list_remove(&q->live);
    seq_destroy(q, &l->fair);
    lane_finish_job(l, job, finish, why);
}

static enum rc lane_admit(struct lane *l, struct seq *q, struct err *err)
{
    struct admit_limits limits = {
        .budget_ns = l->conf.budget_ns,
        .waiting_ns_max = l->conf.waiting_ns_max,
        .now_ns = clock_mono_ns(l->conf.clock),
        .deadline_ns = q->job->params.deadline_ns,
        .fair = &l->fair,
    };
    enum rc rc = admit_check(&l->sched, &q->sched, &limits, err);
    if (rc != RC_OK) {
        lane_metric_refuse(&l->metric, limits.deadline_ns != 0 ? "deadline" : "wait");
    } else if (!sched_submit(&l->sched, &q->sched, limits.now_ns)) {
        rc = admit_refuse_full(&l->sched, &q->sched, &limits, err);
        lane_metric_refuse(&l->metric, "line");
    }
    return rc;
}

void lane_take_job(struct lane *l, struct job *job)
{
    struct seq *q = NULL;
    struct err err = {0};
    struct seq_options opt = {&l->prefix, &l->fair, l->conf.speculation};
    l->n_deadlines += job->params.deadline_ns != 0 ? 1 : 0;
    enum rc rc = seq_create(&q, job, l->engine, &opt, &err);
    if (rc == RC_OK) {
        rc = lane_admit(l, q, &err);
    }
    if (rc != RC_OK) {
        seq_destroy(q, &l->fair);
        lane_finish_job(l, job, JOB_FAILED, &err);
        return;
    }
    list_push_back(&l->live, &q->live);
}

void lane_look_at_jobs(struct lane *l)
{
    uint64_t now_ns = l->n_deadlines > 0 ? clock_mono_ns(l->conf.clock) : 0;
    LIST_EACH(&l->live, node)
    {
        struct seq *q = LIST_ENTRY(node, struct seq, live);
        uint64_t deadline_ns = q->job->params.deadline_ns;
        if (atomic_load_explicit(&q->job->cancelled, memory_order_relaxed)) {
            lane_end_seq(l, q, JOB_CANCELLED, NULL);
        } else if (deadline_ns != 0 && now_ns >= deadline_ns) {
            struct err err;
            err_set(&err, RC_TIMEOUT, "The request's deadline has passed.");
            lane_end_seq(l, q, JOB_FAILED, &err);
        } else if (q->sched.paused && job_has_caught_up(q->job)) {
            q->sched.paused = false;
        }
    }
}

bool lane_is_busy(const struct lane *l)
{
    return !list_is_empty(&l->live);
}

bool lane_has_deadlines(const struct lane *l)
{
    return l->n_deadlines > 0;
}

void lane_fail_all(struct lane *l, const struct err *why)
{
    enum job_finish finish = why->code == RC_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
    LIST_EACH(&l->live, node)
    {
        lane_end_seq(l, LIST_ENTRY(node, struct seq, live), finish, why);
    }
}

bool lane_take_news(struct lane *l)
{
    bool news = l->news;
    l->news = false;
    if (news) {
        struct lane_stats stats;
        lane_get_stats(l, &stats);
        lane_metric_stats(&l->metric, &stats);
    }
    return news;
}

/* ---- one step ---- */

/* The next token of q. False when it was the last one: q is gone then. */
static bool lane_sample(struct lane *l, struct seq *q, float *logits)
{
    struct sample_result sampled;
    if (q->n_output == 0) {
        job_set_cached(q->job, q->sched.n_hit);
    }
    sampler_next(q->sampler, logits, &sampled);
    q->tokens[q->sched.n_tokens++] = sampled.token;
    q->n_output++;
    l->stats.n_output_tokens++;
    l->news = true;
    uint64_t now_ns = clock_mono_ns(l->conf.clock);
    if (q->n_output > 1) {
        lane_metric_token(&l->metric, now_ns - q->token_ns);
    }
    q->token_ns = now_ns;
    enum emit_result result = emit_token(&q->emit, &sampled, now_ns, l->conf.updates);
    if (result == EMIT_STOP) {
        lane_end_seq(l, q, JOB_STOP, NULL);
        return false;
    }
    if (q->n_output == q->job->params.max_tokens) {
        emit_flush(&q->emit, now_ns, l->conf.updates);
        lane_end_seq(l, q, JOB_LENGTH, NULL);
        return false;
    }
    q->sched.paused = result == EMIT_SLOW;
    return true;
}

/* The tokens of one row of the plan: the next one, and one more for each guess that the sampler
 * agrees with. `logits` is the row's first. */
static void lane_sample_row(struct lane *l, const struct sched_row *row, uint32_t logits)
{
    struct seq *q = CONTAINER_OF(row->seq, struct seq, sched);
    uint32_t n_right = 0;
    bool goes_on = true;
    l->stats.n_drafted += row->n_draft;
    for (;;) {
        int32_t guess = n_right < row->n_draft ? q->tokens[q->sched.n_tokens] : -1;
        goes_on = lane_sample(l, q, batch_logits(&l->batch, logits + n_right));
        if (!goes_on || n_right == row->n_draft || q->sched.paused ||
            q->tokens[q->sched.n_tokens - 1] != guess) {
            break;
        }
        sched_accept(&l->sched, &q->sched);
        l->stats.n_accepted++;
        n_right++;
    }
    if (goes_on && row->n_draft > 0) {
        draft_learn(&q->draft, row->n_draft, n_right);
    } else if (goes_on && q->sched.n_draft > 0) {
        draft_skip(&q->draft);
    }
}

static void lane_guess(struct lane *l)
{
    LIST_EACH(&l->live, node)
    {
        seq_guess(LIST_ENTRY(node, struct seq, live));
    }
}

/* Copies pages and runs the plan's rows; ns is what the forward took. */
static enum rc lane_forward(struct lane *l, const struct sched_plan *plan,
                            const _Atomic bool *cancel, uint64_t *ns, struct err *err)
{
    for (uint32_t i = 0; i < plan->n_copies; i++) {
        engine_kv_copy(l->engine, plan->copies[i].from.id, plan->copies[i].to.id);
    }
    const struct engine_batch *b = batch_fill(&l->batch, plan);
    uint64_t start_ns = clock_mono_ns(l->conf.clock);
    enum rc rc = engine_forward(l->engine, b, cancel, err);
    *ns = clock_mono_ns(l->conf.clock) - start_ns;
    return rc;
}

static void lane_sample_rows(struct lane *l, const struct sched_plan *plan)
{
    uint32_t logits = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        struct sched_row row = plan->rows[i];
        l->stats.n_prompt_tokens += row.seq->n_tokens > row.seq->n_prompt ? 0 : row.n_rows;
        if (row.wants_logits) {
            lane_sample_row(l, &row, logits);
            logits += 1 + row.n_draft;
        }
    }
}

bool lane_step(struct lane *l, uint32_t n_busy, const _Atomic bool *cancel)
{
    struct err err = {0};
    uint64_t ns;
    uint64_t start_ns = clock_mono_ns(l->conf.clock);
    lane_guess(l);
    const struct sched_plan *plan =
        sched_plan(&l->sched, start_ns, l->conf.budget_ns / MAX(n_busy, 1u));
    if (plan->n_rows == 0) {
        return false;
    }
    if (lane_forward(l, plan, cancel, &ns, &err) != RC_OK) {
        lane_fail_all(l, &err);
        prefix_clear(&l->prefix);
        return true;
    }
    lane_metric_step(&l->metric, clock_wall_s(l->conf.clock), ns, cost_ratio(&l->cost));
    l->stats.n_steps++;
    sched_done(&l->sched);
    lane_sample_rows(l, plan);
    /* With planning and sampling: that is what a reader waits for. */
    cost_observe(&l->cost, &plan->load, clock_mono_ns(l->conf.clock) - start_ns);
    return true;
}

void lane_get_stats(const struct lane *l, struct lane_stats *out)
{
    *out = l->stats;
    out->sched = *sched_counts(&l->sched);
    out->n_running = sched_n_running(&l->sched);
    out->n_waiting = sched_n_waiting(&l->sched);
    out->kv_pages_total = kv_pages_total(&l->pages);
    out->kv_pages_used = out->kv_pages_total - kv_pages_left(&l->pages);
}
