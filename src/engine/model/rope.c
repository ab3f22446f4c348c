/* rope.c: frequencies of each scaling, and the tables of a batch. */
#include "engine/model/rope.h"

#include <math.h>

#include "base/assert.h"
#include "base/mem.h"

static const double two_pi = 6.283185307179586;

/* ---- YaRN ---- */

/* The (fractional) pair index whose wave turns `n_turns` times in the original context. */
static double yarn_turn_index(const struct modelconf *c, double n_turns)
{
    double tokens = (double)c->rope.original_tokens;
    return (double)c->n_rot * log(tokens / (n_turns * two_pi)) / (2.0 * log((double)c->rope.base));
}

/* Fast waves keep their frequency, slow ones are stretched, between lies a ramp over pairs. */
static void yarn_stretch(const struct modelconf *c, double *inv_freq)
{
    double low = yarn_turn_index(c, (double)c->rope.beta_fast);
    double high = yarn_turn_index(c, (double)c->rope.beta_slow);
    if (!modelconf_has(c, ARCH_YARN_EXACT)) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)c->n_rot - 1);
    double width = fmax(high - low, 0.001);
    for (uint32_t i = 0; i < c->n_rot / 2; i++) {
        double ramp = fmin(1, fmax(0, ((double)i - low) / width));
        double stretched = inv_freq[i] / (double)c->rope.factor;
        inv_freq[i] = inv_freq[i] * (1 - ramp) + stretched * ramp;
    }
}

/* ---- sets ---- */

static double *plain_frequencies(const struct modelconf *c, double base)
{
    double *inv_freq = mem_zalloc_array(c->n_rot / 2, sizeof(double));
    for (uint32_t i = 0; i < c->n_rot / 2; i++) {
        inv_freq[i] = pow(base, -2.0 * i / c->n_rot);
    }
    return inv_freq;
}

/* Which tensor of divisors applies, if any. */
static struct vec factors_of(const struct modelconf *c, const struct weights *w,
                             uint32_t context_tokens)
{
    if (w->rope_long.data != NULL) {
        uint32_t original =
            c->rope.original_tokens > 0 ? c->rope.original_tokens : c->context_trained;
        return context_tokens > original ? w->rope_long : w->rope_short;
    }
    return w->rope_freqs;
}

static enum rc divide_by_factors(struct rope_set *s, struct vec factors, struct err *err)
{
    for (uint32_t i = 0; i < factors.n; i++) {
        double f = (double)factors.data[i];
        if (!(f > 0) || !isfinite(f)) {
            return err_set(err, RC_CORRUPT, "rope factor %u is %g", i, f);
        }
        s->inv_freq[i] /= f;
    }
    return RC_OK;
}

static enum rc init_global(struct rope_set *s, const struct modelconf *c, const struct weights *w,
                           uint32_t context_tokens, struct err *err)
{
    const struct modelconf_rope *rope = &c->rope;
    s->inv_freq = plain_frequencies(c, (double)rope->base);
    s->magnitude = (double)rope->attn_factor;
    if (rope->scaling == ROPE_SCALING_LINEAR) {
        for (uint32_t i = 0; i < c->n_rot / 2; i++) {
            s->inv_freq[i] /= (double)rope->factor;
        }
    } else if (rope->scaling == ROPE_SCALING_YARN) {
        if (rope->original_tokens == 0) {
            return err_set(err, RC_CORRUPT, "yarn without rope.scaling.original_context_length");
        }
        yarn_stretch(c, s->inv_freq);
        s->magnitude *= rope->factor > 1 ? 0.1 * log((double)rope->factor) + 1.0 : 1.0;
    }
    return divide_by_factors(s, factors_of(c, w, context_tokens), err);
}

RC rope_tables_init(struct rope_tables *r, const struct modelconf *c, const struct weights *w,
                    uint32_t context_tokens, struct err *err)
{
    *r = (struct rope_tables){.n_rot = c->n_rot};
    enum rc rc = init_global(&r->sets[ROPE_GLOBAL], c, w, context_tokens, err);
    if (rc != RC_OK) {
        rope_tables_deinit(r);
        return rc;
    }
    if (modelconf_has(c, ARCH_ROPE_LOCAL)) {
        r->sets[ROPE_LOCAL] = (struct rope_set){
            .inv_freq = plain_frequencies(c, (double)c->rope.local_base),
            .magnitude = 1.0,
        };
    }
    return RC_OK;
}

void rope_tables_deinit(struct rope_tables *r)
{
    for (uint32_t i = 0; i < ROPE_SETS; i++) {
        mem_free(r->sets[i].inv_freq);
        r->sets[i].inv_freq = NULL;
    }
}

void rope_tables_fill(const struct rope_tables *r, enum rope_set_index set,
                      const uint32_t *positions, uint32_t n_tokens, float *out)
{
    const struct rope_set *s = &r->sets[set];
    ASSERT(s->inv_freq != NULL);
    for (uint32_t t = 0; t < n_tokens; t++) {
        float *row = out + (size_t)t * r->n_rot;
        for (uint32_t i = 0; i < r->n_rot / 2; i++) {
            double angle = (double)positions[t] * s->inv_freq[i];
            row[2 * i] = (float)(cos(angle) * s->magnitude);
            row[2 * i + 1] = (float)(sin(angle) * s->magnitude);
        }
    }
}
