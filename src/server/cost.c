/* cost.c: see cost.h.
 *
 * Correction: every part moves by a power of observed / predicted that is in proportion to its
 * share of the prediction, so parts stay positive and a part that took no time does not move. The
 * ratio of one step is cut to [2/3, 3/2]: the machine's hiccups (a neighbour, a page fault) are
 * many times that, and rare. The pace, a median of five, is what the parts are off by just now:
 * they take it over in time, and it goes back to 1. */
#include "server/cost.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

enum {
    COST_CHUNK_ROWS = 128, /* of a usual prompt step */
    COST_FAST_STEPS = 8,   /* the first ones of an engine of which nothing was known */
};

static const double cost_step_share = 0.1; /* of a step's error that is taken over */
static const double cost_ratio_max = 1.5;
static const double cost_ns_min = 1e-3;

static void cost_pace_init(struct cost *c)
{
    c->pace = 1;
    for (int i = 0; i < COST_PACE_STEPS; i++) {
        c->seen[i] = 1;
    }
}

void cost_init(struct cost *c)
{
    *c = (struct cost){
        .ns = {[COST_FLOOR] = 2e6,
               [COST_BASE] = 1e6,
               [COST_ROW] = 1e5,
               [COST_LOGIT] = 1e4,
               [COST_DECODE_KEY] = 100,
               [COST_PROMPT_KEY] = 20},
        .ratio = 1,
    };
    cost_pace_init(c);
}

static double cost_positive(double ns)
{
    return MAX(ns, cost_ns_min);
}

void cost_fit(struct cost *c, const struct cost_probe *p)
{
    double one = (double)p->one_ns;
    double few = (double)p->few_ns;
    double many = (double)p->many_ns;
    ASSERT(p->one_ns > 0 && p->few_ns > 0 && p->few > 1);
    *c = (struct cost){.ratio = 1, .n_observed = COST_FAST_STEPS};
    cost_pace_init(c);
    c->ns[COST_FLOOR] = one;
    if (p->many_ns > 0 && many > few) {
        c->ns[COST_ROW] = (many - few) / (p->many - p->few);
    } else {
        c->ns[COST_ROW] = cost_positive(few - one) / (p->few - 1);
    }
    /* What the larger step took beside its rows. */
    double rest =
        p->many_ns > 0 ? many - c->ns[COST_ROW] * p->many : few - c->ns[COST_ROW] * p->few;
    c->ns[COST_BASE] = MAX(rest, one / 20);
    double logits = p->few_logits_ns > 0 ? ((double)p->few_logits_ns - few) / (p->few - 1) : 0;
    c->ns[COST_LOGIT] = MAX(logits, c->ns[COST_ROW] / 100);
    double deep_one = p->deep_one_ns > 0 ? ((double)p->deep_one_ns - one) / p->depth : 0;
    double deep_few =
        p->deep_few_ns > 0 ? ((double)p->deep_few_ns - few) / ((double)p->few * p->depth) : 0;
    /* Nothing measurable: an hundredth of a row for 1,000 keys. */
    c->ns[COST_DECODE_KEY] = MAX(deep_one, c->ns[COST_ROW] * 1e-5);
    c->ns[COST_PROMPT_KEY] = MAX(deep_few, c->ns[COST_ROW] * 1e-5);
    for (int i = 0; i < COST_PARTS; i++) {
        c->ns[i] = cost_positive(c->ns[i]);
    }
}

/* What each part adds to the step's time; parts behind the larger side of the max() add nothing. */
static double cost_shares(const struct cost *c, const struct cost_load *load,
                          double shares[COST_PARTS])
{
    shares[COST_FLOOR] = c->ns[COST_FLOOR];
    shares[COST_BASE] = c->ns[COST_BASE];
    shares[COST_ROW] = c->ns[COST_ROW] * load->n_rows;
    shares[COST_LOGIT] = c->ns[COST_LOGIT] * load->n_logits;
    shares[COST_DECODE_KEY] = c->ns[COST_DECODE_KEY] * (double)load->decode_keys;
    shares[COST_PROMPT_KEY] = c->ns[COST_PROMPT_KEY] * (double)load->prompt_keys;
    double rows = shares[COST_BASE] + shares[COST_ROW] + shares[COST_LOGIT];
    if (shares[COST_FLOOR] > rows) {
        shares[COST_BASE] = shares[COST_ROW] = shares[COST_LOGIT] = 0;
    } else {
        shares[COST_FLOOR] = 0;
    }
    return MAX(c->ns[COST_FLOOR], rows) + shares[COST_DECODE_KEY] + shares[COST_PROMPT_KEY];
}

double cost_ns(const struct cost *c, const struct cost_load *load)
{
    double shares[COST_PARTS];
    return c->pace * cost_shares(c, load, shares);
}

/* The median of what was seen, the oldest replaced by `seen`. */
static void cost_set_pace(struct cost *c, double seen)
{
    double sorted[COST_PACE_STEPS];
    c->seen[c->n_observed % COST_PACE_STEPS] = seen;
    memcpy(sorted, c->seen, sizeof(sorted));
    for (int i = 1; i < COST_PACE_STEPS; i++) {
        for (int j = i; j > 0 && sorted[j] < sorted[j - 1]; j--) {
            double larger = sorted[j - 1];
            sorted[j - 1] = sorted[j];
            sorted[j] = larger;
        }
    }
    c->pace = MAX(sorted[COST_PACE_STEPS / 2], cost_ns_min);
}

/* `seen`: observed / what the parts say. */
static void cost_move_parts(struct cost *c, const double shares[COST_PARTS], double seen)
{
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < COST_PARTS; i++) {
        sum += shares[i];
        squares += shares[i] * shares[i];
    }
    bool fast = c->n_observed < COST_FAST_STEPS;
    double most = fast ? 1000 : cost_ratio_max;
    double step = fast ? 0.7 : cost_step_share;
    double error = log(MIN(MAX(seen, 1 / most), most));
    for (int i = 0; i < COST_PARTS; i++) {
        double power = step * shares[i] * sum / squares;
        c->ns[i] = cost_positive(c->ns[i] * exp(MIN(power, 1.0) * error));
    }
}

void cost_observe(struct cost *c, const struct cost_load *load, uint64_t ns)
{
    double shares[COST_PARTS];
    double seen = (double)MAX(ns, (uint64_t)1) / cost_shares(c, load, shares);
    c->ratio += 0.05 * (MIN(seen / c->pace, 10.0) - c->ratio);
    if (c->n_observed >= COST_FAST_STEPS) {
        cost_set_pace(c, seen);
    }
    cost_move_parts(c, shares, seen);
    c->n_observed++;
}

void cost_add_prompt(struct cost_load *load, uint64_t position, uint32_t n)
{
    load->n_rows += n;
    load->prompt_keys += n * position + (uint64_t)n * (n + 1) / 2;
}

uint32_t cost_rows_within(const struct cost *c, const struct cost_load *load, uint64_t position,
                          uint32_t n_max, double budget_ns)
{
    uint32_t low = 0;
    uint32_t high = n_max;
    while (low < high) {
        uint32_t n = high - (high - low) / 2;
        struct cost_load with = *load;
        cost_add_prompt(&with, position, n);
        if (cost_ns(c, &with) <= budget_ns) {
            low = n;
        } else {
            high = n - 1;
        }
    }
    return low;
}

double cost_prompt_ns(const struct cost *c, uint64_t position, uint32_t n)
{
    struct cost_load all = {0};
    cost_add_prompt(&all, position, n);
    double n_steps = (n + COST_CHUNK_ROWS - 1) / COST_CHUNK_ROWS;
    double rows = c->ns[COST_BASE] * n_steps + c->ns[COST_ROW] * n;
    double ns = MAX(rows, c->ns[COST_FLOOR] * n_steps);
    return c->pace * (ns + c->ns[COST_PROMPT_KEY] * (double)all.prompt_keys);
}

double cost_ratio(const struct cost *c)
{
    return c->ratio;
}
