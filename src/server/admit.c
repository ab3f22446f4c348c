/* admit.c: see admit.h. */
#include "server/admit.h"

#include "base/assert.h"
#include "server/sched_private.h"

enum { ADMIT_RETRY_MS_MIN = 1000, ADMIT_RETRY_MS_MAX = 60000 };

/* A step in which all that run decode. */
static double admit_decode_ns(const struct sched *s)
{
    struct cost_load load = {.n_rows = s->n_running, .n_logits = s->n_running};
    LIST_EACH(&s->running, node)
    {
        load.decode_keys += sched_seq_of(node)->n_tokens;
    }
    return s->n_running > 0 ? cost_ns(s->cost, &load) : 0;
}

/* Prompts that are being read. Those that do not come before go on meanwhile in one turn of three
 * (sched_plan.c), which is half of what the others take. */
static double admit_running_prompts_ns(const struct sched *s, const struct sched_seq *seq)
{
    double own_ns = cost_prompt_ns(s->cost, 0, MAX(seq->n_to_read, 1u));
    double before_ns = 0;
    double beside_ns = 0;
    LIST_EACH(&s->running, node)
    {
        const struct sched_seq *other = sched_seq_of(node);
        if (other->paused || sched_is_decoding(other)) {
            continue;
        }
        uint32_t n_left = other->n_tokens - other->n_cached;
        double ns = cost_prompt_ns(s->cost, other->n_cached, n_left);
        bool is_before =
            other->class < seq->class || (other->class == seq->class && n_left <= seq->n_to_read);
        *(is_before ? &before_ns : &beside_ns) += ns;
    }
    return before_ns + MIN(beside_ns, (before_ns + own_ns) / 2);
}

/* Reading time of what is before seq in line, and how many sequences that are. */
static double admit_waiting_ns(const struct sched *s, const struct sched_seq *seq,
                               const struct admit_limits *limits, uint32_t *n_ahead)
{
    uint32_t level = sched_level(s, seq, limits->now_ns);
    double mean_ns = cost_prompt_ns(s->cost, 0, MAX(seq->n_to_read, 1u));
    struct fair_tenant *t = NULL;
    while ((t = fair_next(limits->fair, t)) != NULL) {
        t->backlog_ns = 0;
    }
    uint32_t n = 0;
    double all_ns = 0;
    LIST_EACH(&s->waiting, node)
    {
        const struct sched_seq *other = sched_seq_of(node);
        if (!other->paused && sched_level(s, other, limits->now_ns) <= level) {
            double ns = cost_prompt_ns(s->cost, 0, MAX(other->n_to_read, 1u));
            other->tenant->backlog_ns += ns;
            all_ns += ns;
            n++;
        }
    }
    double own_ns = seq->tenant->backlog_ns;
    double ahead_ns = own_ns;
    t = NULL;
    while ((t = fair_next(limits->fair, t)) != NULL) {
        if (t != seq->tenant) {
            ahead_ns += MIN(t->backlog_ns, own_ns + mean_ns);
        }
    }
    *n_ahead = all_ns > 0 ? (uint32_t)((double)n * ahead_ns / all_ns + 0.5) : 0;
    return ahead_ns;
}

/* Until n_ahead and one more have a place: answers of the mean length end one after the other. */
static double admit_places_ns(const struct sched *s, uint32_t n_ahead, double decode_ns)
{
    uint32_t n_places = s->conf.running_max;
    uint32_t n_held = kv_pages_total(s->pages) - kv_pages_left(s->pages);
    if (n_held > 0) {
        uint64_t fit = (uint64_t)kv_pages_total(s->pages) * s->n_running / n_held;
        n_places = MAX((uint32_t)MIN(fit, (uint64_t)n_places), 1u);
    }
    uint32_t wanted = s->n_running + n_ahead + 1;
    if (wanted <= n_places || s->n_running == 0) {
        return 0;
    }
    return (wanted - n_places) * s->output_mean * decode_ns / s->n_running;
}

double admit_predict_ns(const struct sched *s, struct sched_seq *seq,
                        const struct admit_limits *limits)
{
    uint32_t n_ahead;
    double decode_ns = admit_decode_ns(s);
    double prompts_ns = admit_running_prompts_ns(s, seq) +
                        admit_waiting_ns(s, seq, limits, &n_ahead) +
                        cost_prompt_ns(s->cost, 0, MAX(seq->n_to_read, 1u));
    double budget_ns = (double)limits->budget_ns;
    /* Of the time, beside decoding. */
    double share = decode_ns > 0 ? 1 - decode_ns / sched_stretch(budget_ns, decode_ns) : 1;
    return prompts_ns / share + admit_places_ns(s, n_ahead, decode_ns);
}

static uint32_t admit_retry_ms(double ns)
{
    return (uint32_t)MIN(MAX(ns / 1e6, (double)ADMIT_RETRY_MS_MIN), (double)ADMIT_RETRY_MS_MAX);
}

enum rc admit_refuse_full(const struct sched *s, struct sched_seq *seq,
                          const struct admit_limits *limits, struct err *err)
{
    err_set(err, RC_BUSY, "The model is busy: %u requests are waiting. Please try again later.",
            sched_n_waiting(s));
    err->retry_ms = admit_retry_ms(admit_predict_ns(s, seq, limits) / 4);
    return RC_BUSY;
}

enum rc admit_check(const struct sched *s, struct sched_seq *seq, const struct admit_limits *limits,
                    struct err *err)
{
    if (limits->deadline_ns != 0 && limits->now_ns >= limits->deadline_ns) {
        return err_set(err, RC_TIMEOUT, "The request's deadline has passed.");
    }
    double ns = admit_predict_ns(s, seq, limits);
    if (limits->deadline_ns != 0 && ns > (double)(limits->deadline_ns - limits->now_ns)) {
        err_set(err, RC_BUSY,
                "The deadline cannot be met: %llu ms are left, and the first token would take "
                "about %.0f ms.",
                (unsigned long long)((limits->deadline_ns - limits->now_ns) / 1000000), ns / 1e6);
        err->retry_ms = admit_retry_ms(ns - (double)(limits->deadline_ns - limits->now_ns));
        return RC_BUSY;
    }
    if (s->n_running > 0 && ns > (double)limits->waiting_ns_max) {
        err_set(err, RC_BUSY,
                "The model is busy: the first token would take about %.0f s. Please try again "
                "later.",
                ns / 1e9);
        err->retry_ms = admit_retry_ms(ns - (double)limits->waiting_ns_max);
        return RC_BUSY;
    }
    return RC_OK;
}
