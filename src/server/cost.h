/* cost.h: how long a step of the engine will take.
 *
 *   t = pace · (max(floor, base + rows · row + logits · logit) + keys · key)
 *
 * Floor is the time that reading all weights takes, whatever the number of rows; the rest grows
 * with the rows (linear layers), with the rows whose logits are wanted (output head) and with the
 * keys that all rows attend to. Fitted to a few timed steps at the start, then corrected by every
 * step. Pace is what the machine makes of it just now: others may take half of it from one step to
 * the next, so it follows within three steps, where the parts move slowly. Pure arithmetic: times
 * come from the caller. One owner: the engine thread. */
#ifndef SERVER_COST_H
#define SERVER_COST_H

#include "base/compiler.h"

/* What a step computes. */
struct cost_load {
    uint32_t n_rows;
    uint32_t n_logits;    /* rows whose logits are wanted */
    uint64_t decode_keys; /* over the rows of sequences that decode: keys they attend to */
    uint64_t prompt_keys; /* the same of rows that read a prompt */
};

enum cost_part {
    COST_FLOOR,
    COST_BASE,
    COST_ROW,
    COST_LOGIT,
    COST_DECODE_KEY,
    COST_PROMPT_KEY,
    COST_PARTS
};

enum { COST_PACE_STEPS = 5 };

struct cost {
    /* private */
    double ns[COST_PARTS];        /* > 0 */
    double pace;                  /* > 0; the median of seen */
    double seen[COST_PACE_STEPS]; /* observed / what the parts say, of the latest steps */
    double ratio;                 /* observed / predicted, a running mean */
    uint64_t n_observed;
};

/* Timed steps to fit to; a time of 0 was not taken. All but the last two are of empty contexts. */
struct cost_probe {
    uint64_t one_ns; /* one row with logits */
    uint32_t few, many;
    uint64_t few_ns, many_ns;          /* as many rows, one of them with logits */
    uint64_t few_logits_ns;            /* `few` rows, all with logits */
    uint32_t depth;                    /* tokens before the rows of the last two: */
    uint64_t deep_one_ns, deep_few_ns; /* one row; `few` rows of one prompt */
};

/* A guess, for an engine of which nothing is known. */
void cost_init(struct cost *c);
void cost_fit(struct cost *c, const struct cost_probe *probe);

/* Nanoseconds. */
double cost_ns(const struct cost *c, const struct cost_load *load);
/* One step's load took ns. One outlier moves little, nor do two of five; what three of five steps
 * say is believed. */
void cost_observe(struct cost *c, const struct cost_load *load, uint64_t ns);
/* Adds n rows of a prompt to a load, the first at `position`. */
void cost_add_prompt(struct cost_load *load, uint64_t position, uint32_t n);
/* How many of n_max such rows fit so that the step takes no longer than budget_ns. */
uint32_t cost_rows_within(const struct cost *c, const struct cost_load *load, uint64_t position,
                          uint32_t n_max, double budget_ns);
/* Nanoseconds to read n tokens of a prompt that begin at `position`, in steps of usual size. */
double cost_prompt_ns(const struct cost *c, uint64_t position, uint32_t n);
/* Observed / predicted: 1 when the model is right. */
double cost_ratio(const struct cost *c);

#endif
