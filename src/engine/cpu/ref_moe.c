/* ref_moe.c: mixture of experts of the reference backend (Shazeer et al. 2017; Mixtral 2024).
 *
 * One token at a time: router logits, the best k experts, their gated networks, the weighted sum.
 * Equal logits go to the lower expert number. */
#include "engine/cpu/ref.h"

#include <math.h>

#include "base/assert.h"

struct choice {
    uint32_t expert;
    double weight;
};

/* logits → softmax numerators over n values, divided by their sum. */
static void softmax(double *x, uint32_t n)
{
    double max = -INFINITY;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        max = fmax(max, x[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        x[i] = exp(x[i] - max);
        sum += x[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        x[i] /= sum;
    }
}

/* The n_used largest of scores[n_experts], descending; their scores are spent. */
static void choose_best(double *scores, const struct moe *m, struct choice *best)
{
    for (uint32_t k = 0; k < m->n_used; k++) {
        uint32_t top = 0;
        for (uint32_t e = 1; e < m->n_experts; e++) {
            if (scores[e] > scores[top]) {
                top = e;
            }
        }
        best[k] = (struct choice){top, scores[top]};
        scores[top] = -INFINITY;
    }
}

static void route(struct ref *r, const struct moe *m, const float *x, struct choice *best)
{
    for (uint32_t e = 0; e < m->n_experts; e++) {
        const float *row = ref_weight_row(r, m->router, 0, e);
        double bias = m->router_bias.data != NULL ? (double)m->router_bias.data[e] : 0.0;
        r->scores[e] = ref_dot(x, row, m->router->n_cols) + bias;
    }
    if (m->gating == MOE_SOFTMAX) {
        softmax(r->scores, m->n_experts);
    }
    choose_best(r->scores, m, best);
    double sum = 0;
    if (m->gating == MOE_SOFTMAX_TOP_K) {
        double max = best[0].weight;
        for (uint32_t k = 0; k < m->n_used; k++) {
            best[k].weight = exp(best[k].weight - max);
        }
    }
    for (uint32_t k = 0; k < m->n_used; k++) {
        sum += best[k].weight;
    }
    bool divide = m->gating == MOE_SOFTMAX_TOP_K || m->renormalise;
    for (uint32_t k = 0; k < m->n_used; k++) {
        best[k].weight *= (double)m->weight_scale / (divide ? sum : 1.0);
    }
}

/* Output `row` of one linear map of one expert. */
static float expert_dot(struct ref *r, const struct weight *w, struct vec bias, uint32_t expert,
                        uint32_t row, const float *x)
{
    double y = ref_dot(x, ref_weight_row(r, w, expert, row), w->n_cols);
    if (bias.data != NULL) {
        y += (double)bias.data[(size_t)expert * w->n_rows + row];
    }
    return (float)y;
}

void ref_moe(struct backend *b, float *x, const struct rows_in *in, const struct moe *m,
             uint32_t n_tokens)
{
    struct ref *r = ref_of(b);
    struct choice best[BACKEND_EXPERTS_USED_MAX];
    uint32_t n_embd = m->router->n_cols;
    uint32_t n_ff = m->gate->n_rows;
    ASSERT(m->n_used <= BACKEND_EXPERTS_USED_MAX && m->n_used <= m->n_experts);
    ASSERT(m->n_experts <= r->n_scores && n_ff <= r->n_expert);
    struct rows_in rows = ref_normed(r, in, n_embd, n_tokens);
    for (size_t t = 0; t < n_tokens; t++) {
        const float *normed = rows.x + t * rows.stride;
        route(r, m, normed, best);
        for (uint32_t k = 0; k < m->n_used; k++) {
            uint32_t e = best[k].expert;
            for (uint32_t i = 0; i < n_ff; i++) {
                float gate = expert_dot(r, m->gate, m->gate_bias, e, i, normed);
                float up = expert_dot(r, m->up, m->up_bias, e, i, normed);
                r->expert[i] = ref_act(m->act, gate, up);
            }
            for (uint32_t c = 0; c < n_embd; c++) {
                double y = (double)expert_dot(r, m->down, m->down_bias, e, c, r->expert);
                x[t * n_embd + c] += (float)(best[k].weight * y);
            }
        }
    }
}
