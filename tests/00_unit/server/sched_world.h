/* sched_world.h: a scheduler with a fake engine and a fake clock, for its tests. The fake engine
 * takes the time of a cost model of its own, "samples" counted-up tokens and checks what it is
 * given: pages that hold what they should, no page written that others hold. */
#ifndef TESTS_SCHED_WORLD_H
#define TESTS_SCHED_WORLD_H

#include "check.h"

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/tensor/backend.h"
#include "server/admit.h"
#include "server/sched.h"

#define MS UINT64_C(1000000)

/* What the fake engine has in its pages: a token for each place, and the text before it. */
struct world_page {
    int32_t tokens[KV_PAGE_TOKENS];
    uint64_t texts[KV_PAGE_TOKENS]; /* hash of the tenant's text up to here */
};

struct world {
    struct kv_pages pages;
    struct prefix prefix;
    struct fair fair;
    struct cost cost, truth;
    struct sched s;
    struct world_page *kv;
    uint64_t now_ns;
    uint64_t budget_ns;
    uint64_t n_steps;
};

struct sim_seq {
    struct sched_seq sched;
    int32_t *tokens;
    uint32_t n_output, n_output_end;
    uint64_t seed;       /* of the tokens it will say */
    uint64_t first_ns;   /* when its first token came; 0 = not yet */
    uint64_t last_ns;    /* … its last */
    uint64_t gap_ns_max; /* longest time between two */
    bool live;
};

static inline void world_open(struct world *w, const struct sched_conf *conf, uint32_t n_pages)
{
    memset(w, 0, sizeof(*w));
    kv_pages_init(&w->pages, n_pages);
    prefix_init(&w->prefix, &(struct prefix_conf){.on = true, .seed = 5}, &w->pages);
    fair_init(&w->fair, 7);
    w->truth = (struct cost){.ns = {[COST_FLOOR] = 10e6,
                                    [COST_BASE] = 2e6,
                                    [COST_ROW] = 1e6,
                                    [COST_LOGIT] = 1e5,
                                    [COST_DECODE_KEY] = 1e3,
                                    [COST_PROMPT_KEY] = 1e2},
                             .pace = 1,
                             .seen = {1, 1, 1, 1, 1},
                             .ratio = 1,
                             .n_observed = 100};
    w->cost = w->truth;
    w->now_ns = 1000 * MS;
    w->budget_ns = 100 * MS;
    w->kv = mem_zalloc_array(n_pages, sizeof(*w->kv));
    struct sched_conf full = *conf;
    full.logits_max = conf->logits_max != 0 ? conf->logits_max : conf->running_max + 32;
    full.aging_ns = conf->aging_ns != 0 ? conf->aging_ns : 10000 * MS;
    full.copies = true;
    sched_init(&w->s, &full, &w->prefix, &w->cost);
}

static inline void world_close(struct world *w)
{
    assert_int_equal(kv_pages_left(&w->pages), kv_pages_total(&w->pages));
    sched_deinit(&w->s);
    fair_deinit(&w->fair);
    prefix_deinit(&w->prefix);
    kv_pages_deinit(&w->pages);
    mem_free(w->kv);
}

/* A sequence of n_prompt tokens, of which the first n_shared are the same for equal `text`. */
struct sim_prompt {
    uint32_t n_prompt, n_output;
    uint32_t n_shared;
    uint64_t text;
    const char *tenant;
    uint32_t class;
};

static inline void sim_start(struct world *w, struct sim_seq *q, const struct sim_prompt *p)
{
    static uint64_t n_started; /* no two prompts are alike, but for what they share */
    struct sched_seq *s = &q->sched;
    struct rng own, shared;
    memset(q, 0, sizeof(*q));
    rng_init(&own, ++n_started);
    rng_init(&shared, p->text + 1000000);
    s->n_tokens = p->n_prompt;
    s->n_tokens_max = p->n_prompt + p->n_output;
    s->n_pages_max = (s->n_tokens_max + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    q->tokens = mem_zalloc_array(s->n_tokens_max + SCHED_DRAFT_MAX, sizeof(*q->tokens));
    s->page_ids = mem_zalloc_array(s->n_pages_max, sizeof(*s->page_ids));
    s->keys = mem_zalloc_array(s->n_pages_max, sizeof(*s->keys));
    s->tokens = q->tokens;
    for (uint32_t i = 0; i < p->n_prompt; i++) {
        q->tokens[i] = (int32_t)(rng_u32(i < p->n_shared ? &shared : &own) >> 1);
    }
    const char *tenant = p->tenant != NULL ? p->tenant : "t";
    s->tenant = fair_get(&w->fair, str_from(tenant));
    s->root = prefix_root(&w->prefix, str_from(tenant));
    s->class = p->class;
    q->seed = n_started;
    q->n_output_end = p->n_output;
    q->live = true;
}

static inline bool sim_submit(struct world *w, struct sim_seq *q)
{
    return sched_submit(&w->s, &q->sched, w->now_ns);
}

/* Gives everything back; the sequence is in no line any more. */
static inline void sim_drop(struct world *w, struct sim_seq *q)
{
    fair_put(&w->fair, q->sched.tenant);
    mem_free(q->tokens);
    mem_free(q->sched.page_ids);
    mem_free(q->sched.keys);
    q->live = false;
    q->sched.paused = false;
}

static inline void sim_end(struct world *w, struct sim_seq *q)
{
    sched_remove(&w->s, &q->sched);
    sim_drop(w, q);
}

/* The token that follows; the same whatever the scheduler does. */
static inline int32_t sim_next_token(const struct sim_seq *q)
{
    return (int32_t)((q->seed * 31 + q->n_output * 17) % 1000);
}

static inline uint64_t world_text(uint64_t before, int32_t token)
{
    return hash_u64(before ^ ((uint64_t)(uint32_t)token + 0x9e3779b97f4a7c15u));
}

/* Runs the rows of one sequence: what lies before them must be its own text. */
static inline void world_run_row(struct world *w, const struct sched_row *row)
{
    const struct sched_seq *s = row->seq;
    uint64_t text = s->root.lo;
    assert_true(s->n_cached + row->n_rows <= s->n_pages * KV_PAGE_TOKENS);
    for (uint32_t at = 0; at < s->n_cached + row->n_rows; at++) {
        struct world_page *page = &w->kv[s->page_ids[at / KV_PAGE_TOKENS]];
        text = world_text(text, s->tokens[at]);
        if (at >= s->n_cached) {
            kv_page_id id = {s->page_ids[at / KV_PAGE_TOKENS]};
            assert_int_equal(kv_page_n_holds(&w->pages, id), 1);
            page->tokens[at % KV_PAGE_TOKENS] = s->tokens[at];
            page->texts[at % KV_PAGE_TOKENS] = text;
        } else {
            assert_int_equal(page->tokens[at % KV_PAGE_TOKENS], s->tokens[at]);
            assert_true(page->texts[at % KV_PAGE_TOKENS] == text);
        }
    }
}

/* One step of the fake engine: plan, run, advance the clock. Returns the plan's rows. */
static inline const struct sched_plan *world_step(struct world *w)
{
    const struct sched_plan *plan = sched_plan(&w->s, w->now_ns, w->budget_ns);
    for (uint32_t i = 0; i < plan->n_copies; i++) {
        w->kv[plan->copies[i].to.id] = w->kv[plan->copies[i].from.id];
    }
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        world_run_row(w, &plan->rows[i]);
        n_rows += plan->rows[i].n_rows;
    }
    assert_true(n_rows <= w->s.conf.rows_max);
    assert_int_equal(n_rows, plan->load.n_rows);
    if (plan->n_rows > 0) {
        uint64_t ns = (uint64_t)cost_ns(&w->truth, &plan->load);
        w->now_ns += ns;
        w->n_steps++;
        cost_observe(&w->cost, &plan->load, ns);
        sched_done(&w->s);
    }
    return plan;
}

/* The sampled tokens of a row, guesses verified; false when the sequence has ended. */
static inline bool sim_sample(struct world *w, const struct sched_row *row)
{
    struct sim_seq *q = CONTAINER_OF(row->seq, struct sim_seq, sched);
    for (uint32_t i = 0;; i++) {
        int32_t guess = i < row->n_draft ? q->tokens[q->sched.n_tokens] : -1;
        int32_t token = sim_next_token(q);
        q->tokens[q->sched.n_tokens++] = token;
        q->n_output++;
        uint64_t since = q->last_ns != 0 ? w->now_ns - q->last_ns : 0;
        q->gap_ns_max = MAX(q->gap_ns_max, since);
        q->first_ns = q->first_ns != 0 ? q->first_ns : w->now_ns;
        q->last_ns = w->now_ns;
        if (q->n_output == q->n_output_end) {
            return false;
        }
        if (i == row->n_draft || token != guess) {
            return true;
        }
        sched_accept(&w->s, &q->sched);
    }
}

/* A step, its tokens sampled; returns how many sequences ended with it. */
static inline uint32_t world_turn(struct world *w)
{
    uint32_t n_ended = 0;
    const struct sched_plan *plan = world_step(w);
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        struct sched_row row = plan->rows[i];
        if (row.wants_logits && !sim_sample(w, &row)) {
            sim_end(w, CONTAINER_OF(row.seq, struct sim_seq, sched));
            n_ended++;
        }
    }
    return n_ended;
}

/* Steps until n sequences have ended. */
static inline void world_finish(struct world *w, uint32_t n)
{
    while (n > 0) {
        n -= world_turn(w);
        assert_true(w->s.plan.n_rows > 0);
    }
}

#endif
