/* calibrate.c: see calibrate.h. Each step is timed up to three times and the middle one counts;
 * slow engines get fewer and smaller steps. What the rows say does not matter, only how many they
 * are and where they stand. */
#include "server/calibrate.h"

#include "base/mem.h"

enum {
    CALIBRATE_FEW = 32,
    CALIBRATE_MANY = 96,
    CALIBRATE_DEPTH = 1024,
    CALIBRATE_RUNS = 3,
};

static const uint64_t calibrate_slow_ns = 150000000; /* a step that is not worth repeating */

struct calibrate {
    struct engine *engine;
    const struct clock *clock;
    const _Atomic bool *cancel;
    int32_t *tokens;
    uint32_t *positions, *seq_of, *logit_rows, *page_ids;
    float *logits;
    uint32_t n_pages;
    bool failed;
};

struct calibrate_step {
    uint32_t n_rows, n_logits, position;
};

static bool calibrate_init(struct calibrate *c)
{
    const struct engine_info *info = engine_info(c->engine);
    c->n_pages = MIN(info->kv_pages, (info->context_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
    c->tokens = mem_try_zalloc_array(CALIBRATE_MANY, sizeof(*c->tokens));
    c->positions = mem_try_zalloc_array(CALIBRATE_MANY, sizeof(*c->positions));
    c->seq_of = mem_try_zalloc_array(CALIBRATE_MANY, sizeof(*c->seq_of));
    c->logit_rows = mem_try_zalloc_array(CALIBRATE_MANY, sizeof(*c->logit_rows));
    c->page_ids = mem_try_zalloc_array(c->n_pages, sizeof(*c->page_ids));
    c->logits = mem_try_pages((size_t)CALIBRATE_FEW * info->n_vocab * sizeof(*c->logits));
    return c->tokens != NULL && c->positions != NULL && c->seq_of != NULL &&
           c->logit_rows != NULL && c->page_ids != NULL && c->logits != NULL;
}

static void calibrate_deinit(struct calibrate *c)
{
    mem_free(c->tokens);
    mem_free(c->positions);
    mem_free(c->seq_of);
    mem_free(c->logit_rows);
    mem_free(c->page_ids);
    mem_free_pages(c->logits);
}

/* One forward of rows of one sequence, the last ones with logits; 0 when it did not run. */
static uint64_t calibrate_once(struct calibrate *c, const struct calibrate_step *step)
{
    for (uint32_t i = 0; i < step->n_rows; i++) {
        c->tokens[i] = (int32_t)(i % engine_info(c->engine)->n_vocab);
        c->positions[i] = step->position + i;
        c->logit_rows[i] = step->n_rows - step->n_logits + i;
    }
    for (uint32_t i = 0; i < c->n_pages; i++) {
        c->page_ids[i] = i;
    }
    struct kv_table table = {c->page_ids, c->n_pages};
    struct engine_batch batch = {.n_tokens = step->n_rows,
                                 .tokens = c->tokens,
                                 .positions = c->positions,
                                 .seq_of = c->seq_of,
                                 .n_seqs = 1,
                                 .seqs = &table,
                                 .n_logit_rows = step->n_logits,
                                 .logit_rows = c->logit_rows,
                                 .logits = c->logits};
    struct err err;
    uint64_t start_ns = clock_mono_ns(c->clock);
    if (c->failed || engine_forward(c->engine, &batch, c->cancel, &err) != RC_OK) {
        c->failed = true;
        return 0;
    }
    return MAX(clock_mono_ns(c->clock) - start_ns, (uint64_t)1);
}

static uint64_t calibrate_time(struct calibrate *c, const struct calibrate_step *step)
{
    uint64_t ns[CALIBRATE_RUNS];
    for (uint32_t n = 0; n < CALIBRATE_RUNS; n++) {
        ns[n] = calibrate_once(c, step);
        if (ns[n] > calibrate_slow_ns || ns[n] == 0) {
            return ns[n];
        }
    }
    uint64_t low = MIN(ns[0], ns[1]);
    uint64_t high = MAX(ns[0], ns[1]);
    return MAX(low, MIN(high, ns[2]));
}

static void calibrate_probe(struct calibrate *c, struct cost_probe *p)
{
    const struct engine_info *info = engine_info(c->engine);
    uint32_t room = MIN(c->n_pages * KV_PAGE_TOKENS, info->context_tokens);
    uint32_t rows_max = MIN(info->batch_tokens_max, room);
    (void)calibrate_once(c, &(struct calibrate_step){1, 1, 0}); /* touches the weights */
    p->one_ns = calibrate_time(c, &(struct calibrate_step){1, 1, 0});
    p->few = MIN(p->one_ns > calibrate_slow_ns / 2 ? 8u : CALIBRATE_FEW, rows_max);
    p->few_ns = calibrate_time(c, &(struct calibrate_step){p->few, 1, 0});
    if (p->few_ns > 2 * calibrate_slow_ns) {
        return; /* what is missing is learned from real steps */
    }
    p->few_logits_ns = calibrate_time(c, &(struct calibrate_step){p->few, p->few, 0});
    p->many = MIN((uint32_t)CALIBRATE_MANY, rows_max);
    if (p->many > p->few) {
        p->many_ns = calibrate_time(c, &(struct calibrate_step){p->many, 1, 0});
    }
    p->depth = MIN((uint32_t)CALIBRATE_DEPTH, room - p->few);
    if (p->depth > 0) {
        p->deep_one_ns = calibrate_time(c, &(struct calibrate_step){1, 1, p->depth});
        p->deep_few_ns = calibrate_time(c, &(struct calibrate_step){p->few, 1, p->depth});
    }
}

void calibrate_run(struct engine *e, const struct clock *clock, const _Atomic bool *cancel,
                   struct cost *cost)
{
    struct calibrate c = {.engine = e, .clock = clock, .cancel = cancel};
    struct cost_probe probe = {0};
    if (calibrate_init(&c)) {
        calibrate_probe(&c, &probe);
        if (!c.failed && probe.few > 1) {
            cost_fit(cost, &probe);
        }
    }
    calibrate_deinit(&c);
}
