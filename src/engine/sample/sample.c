/* sample.c: one step of choosing, in the order that sample.h states.
 *
 * Truncation (top-k, top-p, min-p) always keeps a prefix of the tokens in descending order, so
 * only as much of that order is made as the prefix needs: k entries by a heap, or those above a
 * floor that is lowered until the nucleus is inside. Without truncation nothing is ordered. */
#include "engine/sample/sample.h"

#include <math.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/sample/logprob.h"
#include "engine/sample/penalty.h"
#include "engine/sample/select.h"
#include "engine/sample/weigh.h"

struct sampler {
    struct sample_params params;
    struct sample_penalty penalty;
    struct rng rng;
    uint32_t n_vocab;
    uint32_t n_output;
    int32_t *ends;   /* end tokens, when some rule bans them */
    uint32_t n_ends; /* of the vocabulary; ends[n_ends … n_bans) are stop tokens of the request */
    uint32_t n_bans;
    struct sample_entry *kept; /* scratch of the truncation, room for n_kept_max; NULL: none */
    uint32_t n_kept_max;
};

/* ---- create ---- */

static enum rc check_params(const struct sample_params *p, uint32_t n_vocab, struct err *err)
{
    /* Written so that NaN is refused. */
    const struct {
        const char *name;
        float value, min, max;
    } rows[] = {
        {"temperature", p->temperature, 0, 100},
        {"top_p", p->top_p, 0, 1},
        {"min_p", p->min_p, 0, 1},
        {"repetition_penalty", p->repetition_penalty, 0.01f, 100},
        {"presence_penalty", p->presence_penalty, -100, 100},
        {"frequency_penalty", p->frequency_penalty, -100, 100},
        {"top_logprobs", (float)p->n_top_logprobs, 0, SAMPLE_TOP_LOGPROBS_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!(rows[i].value >= rows[i].min && rows[i].value <= rows[i].max)) {
            return err_set_param(err, RC_INVALID, rows[i].name, "%s is %g, must be %g to %g",
                                 rows[i].name, (double)rows[i].value, (double)rows[i].min,
                                 (double)rows[i].max);
        }
    }
    for (uint32_t i = 0; i < p->n_biases; i++) {
        int32_t token = p->biases[i].token;
        if (token < 0 || (uint32_t)token >= n_vocab || !isfinite(p->biases[i].bias)) {
            return err_set_param(err, RC_INVALID, "logit_bias",
                                 "logit_bias: token %d is not in the vocabulary of %u, or its bias "
                                 "is no number",
                                 token, n_vocab);
        }
    }
    return RC_OK;
}

static bool truncates(const struct sample_params *p)
{
    return p->temperature > 0 && (p->top_k > 0 || p->top_p < 1 || p->min_p > 0);
}

static enum rc find_ends(struct sampler *s, const struct vocab *v, struct err *err)
{
    if (!s->params.ignore_eos && s->params.min_tokens == 0) {
        return RC_OK;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        n += vocab_is_eog(v, (int32_t)i);
    }
    uint32_t n_stops = s->params.min_tokens > 0 ? s->params.n_stop_tokens : 0;
    s->ends = mem_try_zalloc_array((size_t)n + n_stops, sizeof(s->ends[0]));
    if (s->ends == NULL) {
        return err_set(err, RC_NOMEM, "no memory for a list of end tokens");
    }
    for (uint32_t i = 0; s->n_ends < n; i++) {
        if (vocab_is_eog(v, (int32_t)i)) {
            s->ends[s->n_ends++] = (int32_t)i;
        }
    }
    s->n_bans = s->n_ends;
    for (uint32_t i = 0; i < n_stops; i++) {
        int32_t token = s->params.stop_tokens[i];
        ASSERT(token >= 0 && (uint32_t)token < s->n_vocab);
        s->ends[s->n_bans++] = token;
    }
    return RC_OK;
}

static enum rc alloc_kept(struct sampler *s, struct err *err)
{
    if (!truncates(&s->params)) {
        return RC_OK;
    }
    uint32_t k = s->params.top_k;
    s->n_kept_max = k > 0 ? MIN(k, s->n_vocab) : s->n_vocab;
    s->kept = mem_try_zalloc_array(s->n_kept_max, sizeof(s->kept[0]));
    if (s->kept == NULL) {
        return err_set(err, RC_NOMEM, "no memory for %u candidates", s->n_kept_max);
    }
    return RC_OK;
}

RC sampler_create(struct sampler **out, const struct vocab *v, const struct sample_params *p,
                  struct err *err)
{
    uint32_t n_vocab = vocab_size(v);
    enum rc rc = check_params(p, n_vocab, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct sampler *s = mem_zalloc(sizeof(*s));
    s->params = *p;
    s->n_vocab = n_vocab;
    rng_init(&s->rng, p->seed);
    rc = sample_penalty_init(&s->penalty, n_vocab, p, err);
    if (rc == RC_OK) {
        rc = find_ends(s, v, err);
    }
    if (rc == RC_OK) {
        rc = alloc_kept(s, err);
    }
    if (rc != RC_OK) {
        sampler_destroy(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

void sampler_destroy(struct sampler *s)
{
    if (s == NULL) {
        return;
    }
    sample_penalty_deinit(&s->penalty);
    mem_free(s->ends);
    mem_free(s->kept);
    mem_free(s);
}

void sampler_see_prompt(struct sampler *s, int32_t token)
{
    sample_penalty_see_prompt(&s->penalty, token);
}

/* ---- draw ---- */

/* The weight of a logit against the largest, at the sampler's temperature: 1 for the largest. */
static double weight(const struct sampler *s, float logit, float max)
{
    return (double)expf((logit - max) / s->params.temperature);
}

static struct sample_weighing weighing(const struct sampler *s, const float *logits, float max)
{
    return (struct sample_weighing){logits, s->n_vocab, max, s->params.temperature};
}

/* Every token has its chance: two walks, nothing stored. */
static int32_t draw_any(struct sampler *s, const float *logits, float max)
{
    struct sample_weighing w = weighing(s, logits, max);
    return sample_weigh_find(&w, rng_unit(&s->rng) * sample_weigh(&w));
}

/* How many of kept[n], in descending order, top-p and min-p leave, and their summed weight. `total`
 * is the weight that top_p is a share of. 0 when both limits lie beyond entry n. */
static uint32_t cut_prefix(const struct sampler *s, uint32_t n, double total, double *sum)
{
    float max = s->kept[0].logit;
    double enough = (double)s->params.top_p * total;
    *sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        double w = weight(s, s->kept[i].logit, max);
        if (i > 0 && w < (double)s->params.min_p) {
            return i;
        }
        *sum += w;
        if (*sum >= enough && s->params.top_p < 1) {
            return i + 1;
        }
    }
    return 0;
}

/* The k best, then top-p of them, then min-p. Returns how many of s->kept stay. */
static uint32_t truncate_top_k(struct sampler *s, const float *logits, double *sum)
{
    uint32_t n = sample_top_k(logits, s->n_vocab, s->n_kept_max, s->kept);
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += weight(s, s->kept[i].logit, s->kept[0].logit);
    }
    uint32_t kept = cut_prefix(s, n, total, sum);
    return kept > 0 ? kept : n;
}

/* Top-p and min-p of the whole vocabulary: most nuclei lie within e⁻⁷ of the best weight, so the
 * floor starts there and goes down while the nucleus is not inside. */
static uint32_t truncate_nucleus(struct sampler *s, const float *logits, float max, double *sum)
{
    static const float floors[] = {-7, -14, -28, -INFINITY};
    struct sample_weighing w = weighing(s, logits, max);
    double total = s->params.top_p < 1 ? sample_weigh(&w) : 0;
    uint32_t n = 0;
    for (size_t f = 0; f < ARRAY_LEN(floors); f++) {
        n = sample_above(logits, s->n_vocab, max + floors[f] * s->params.temperature, s->kept);
        uint32_t kept = cut_prefix(s, n, total, sum);
        if (kept > 0) {
            return kept;
        }
    }
    return n;
}

static int32_t draw_truncated(struct sampler *s, const float *logits, float max)
{
    double sum = 0;
    uint32_t n = s->params.top_k > 0 ? truncate_top_k(s, logits, &sum)
                                     : truncate_nucleus(s, logits, max, &sum);
    double left = rng_unit(&s->rng) * sum;
    uint32_t i = 0;
    while (i + 1 < n && (left -= weight(s, s->kept[i].logit, max)) >= 0) {
        i++;
    }
    return s->kept[i].token;
}

static int32_t choose(struct sampler *s, const float *logits)
{
    float max = sample_max(logits, s->n_vocab);
    /* An infinite maximum: everything is banned, or the model is broken; nothing to weigh. */
    if (s->params.temperature <= 0 || !isfinite(max)) {
        return sample_argmax(logits, s->n_vocab);
    }
    return s->kept != NULL ? draw_truncated(s, logits, max) : draw_any(s, logits, max);
}

/* ---- a step ---- */

void sampler_next(struct sampler *s, float *logits, struct sample_result *out)
{
    const struct sample_params *p = &s->params;
    sample_penalty_apply(&s->penalty, logits);
    for (uint32_t i = 0; i < p->n_biases; i++) {
        logits[p->biases[i].token] += p->biases[i].bias;
    }
    bool early = s->n_output < p->min_tokens;
    uint32_t n_banned = early ? s->n_bans : p->ignore_eos ? s->n_ends : 0;
    for (uint32_t i = 0; i < n_banned; i++) {
        logits[s->ends[i]] = -INFINITY;
    }
    *out = (struct sample_result){.token = choose(s, logits)};
    if (p->want_logprob || p->n_top_logprobs > 0) {
        double norm = sample_logprob_norm(logits, s->n_vocab);
        out->logprob = (float)((double)logits[out->token] - norm);
        out->n_top = sample_logprob_top(logits, s->n_vocab, norm, p->n_top_logprobs, out->top);
    }
    sample_penalty_see_output(&s->penalty, out->token);
    s->n_output++;
}
