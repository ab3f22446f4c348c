/* lane_metric.c: see lane_metric.h. Series are looked up once; without a name nothing is told. */
#include "server/lane_metric.h"

void lane_metric_init(struct lane_metric *m, struct str name)
{
    *m = (struct lane_metric){0};
    (void)str_copy(m->name, sizeof(m->name), str_slice(name, 0, METRIC_VALUE_BYTES_MAX));
    struct str label = str_from(m->name);
    const struct {
        struct metric_series **series;
        enum metric_id id;
    } rows[] = {
        {&m->running, METRIC_REQUESTS_RUNNING},   {&m->waiting, METRIC_REQUESTS_WAITING},
        {&m->pages_used, METRIC_KV_PAGES_USED},   {&m->pages_total, METRIC_KV_PAGES_TOTAL},
        {&m->ratio, METRIC_STEP_RATIO},           {&m->preemptions, METRIC_PREEMPTIONS},
        {&m->looked_up, METRIC_PREFIX_LOOKED_UP}, {&m->hits, METRIC_PREFIX_HITS},
        {&m->drafted, METRIC_DRAFT_TOKENS},       {&m->accepted, METRIC_DRAFT_ACCEPTED},
        {&m->step, METRIC_STEP_DURATION},         {&m->inter_token, METRIC_INTER_TOKEN},
        {&m->last_step, METRIC_LAST_STEP},        {&m->computed, METRIC_PROMPT_COMPUTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        *rows[i].series = metric_with1(rows[i].id, label);
    }
}

void lane_metric_step(struct lane_metric *m, int64_t wall_s, uint64_t ns, double ratio)
{
    if (m->step != NULL) {
        metric_observe(m->step, ns);
        metric_set(m->ratio, ratio);
        metric_set(m->last_step, (double)wall_s);
    }
}

void lane_metric_token(struct lane_metric *m, uint64_t since_last_ns)
{
    if (m->inter_token != NULL) {
        metric_observe(m->inter_token, since_last_ns);
    }
}

static void lane_metric_count(struct lane_metric *m, enum metric_id id, const char *reason)
{
    if (m->step != NULL) {
        struct str values[] = {str_from(m->name), str_from(reason)};
        metric_add(metric_with(id, values), 1);
    }
}

void lane_metric_finish(struct lane_metric *m, enum job_finish finish)
{
    static const char *const reasons[] = {
        [JOB_RUNNING] = "",      [JOB_STOP] = "stop",
        [JOB_LENGTH] = "length", [JOB_CANCELLED] = "cancelled",
        [JOB_FAILED] = "error",
    };
    lane_metric_count(m, METRIC_REQUESTS_FINISHED, reasons[finish]);
}

void lane_metric_refuse(struct lane_metric *m, const char *reason)
{
    lane_metric_count(m, METRIC_ADMISSION_REFUSED, reason);
}

void lane_metric_stats(struct lane_metric *m, const struct lane_stats *now)
{
    if (m->step == NULL) {
        return;
    }
    const struct lane_stats *told = &m->told;
    metric_set(m->running, now->n_running);
    metric_set(m->waiting, now->n_waiting);
    metric_set(m->pages_used, now->kv_pages_used);
    metric_set(m->pages_total, now->kv_pages_total);
    metric_add(m->preemptions, now->sched.n_preempted - told->sched.n_preempted);
    metric_add(m->looked_up, now->sched.n_looked_up_tokens - told->sched.n_looked_up_tokens);
    metric_add(m->hits, now->sched.n_hit_tokens - told->sched.n_hit_tokens);
    metric_add(m->computed, now->n_prompt_tokens - told->n_prompt_tokens);
    metric_add(m->drafted, now->n_drafted - told->n_drafted);
    metric_add(m->accepted, now->n_accepted - told->n_accepted);
    m->told = *now;
}
