/* sched_plan.c: the rows of one step: decoding sequences, then prompts, then guesses.
 *
 * Whoever decodes is in every step, so the time of a step is the longest that a reader waits
 * between two tokens: prompts are cut into chunks that keep it within the budget. A step that
 * decoding alone makes long is made longer for prompts, so that they go on: by half, as long as it
 * stays below sched_stretch_budgets, and by a quarter where it cannot.
 *
 * Of the prompts of a class the one with the least left to read is next, so that a question need
 * not wait for a book; each SCHED_OLDEST_TURNS-th step begins with the oldest of the best
 * level instead, so that a book gets its share of the time whatever else comes. */
#include "base/assert.h"
#include "server/sched_private.h"

enum {
    SCHED_PROMPT_ROWS_MIN = 4, /* of the first prompt of a step, whatever the budget */
    SCHED_ALIGN_ROWS_MIN = 4 * KV_PAGE_TOKENS, /* else a page's end may halve the chunk */
    SCHED_OLDEST_TURNS = 3,
};

static const double sched_budget_alone = 4;       /* budgets, when nobody decodes */
static const double sched_stretch_max = 1.5;      /* of decoding alone … */
static const double sched_stretch_budgets = 1.75; /* … but no more budgets than this … */
static const double sched_stretch_min = 1.25;     /* … but this of decoding alone in any case */
static const double sched_draft_gain = 1.02;      /* what guessing must promise at least */

static void sched_add(struct sched *s, struct sched_seq *seq, uint32_t n_rows)
{
    struct sched_plan *plan = &s->plan;
    bool reaches_end = seq->n_cached + n_rows == seq->n_tokens;
    if (sched_is_decoding(seq)) {
        plan->load.n_rows++;
        plan->load.decode_keys += seq->n_tokens;
    } else {
        cost_add_prompt(&plan->load, seq->n_cached, n_rows);
    }
    plan->load.n_logits += reaches_end ? 1 : 0;
    plan->rows[plan->n_rows++] =
        (struct sched_row){.seq = seq, .n_rows = n_rows, .wants_logits = reaches_end};
}

static void sched_add_decoding(struct sched *s)
{
    /* Growing may take any other sequence off the list, the next one too, but never this one. */
    for (struct list_node *node = s->running.head.next; node != &s->running.head;
         node = node->next) {
        struct sched_seq *seq = sched_seq_of(node);
        ASSERT(seq->n_cached < seq->n_tokens);
        if (!seq->paused && sched_is_decoding(seq) && sched_grow(s, seq, seq->n_tokens)) {
            sched_add(s, seq, 1);
        }
    }
}

/* ---- prompts ---- */

/* Whether a is read before b. In an oldest turn levels count, which rise with time. */
static bool sched_reads_before(const struct sched *s, const struct sched_seq *a,
                               const struct sched_seq *b, bool oldest)
{
    uint32_t first_a = oldest ? sched_level(s, a, s->now_ns) : a->class;
    uint32_t first_b = oldest ? sched_level(s, b, s->now_ns) : b->class;
    uint32_t left_a = a->n_tokens - a->n_cached;
    uint32_t left_b = b->n_tokens - b->n_cached;
    if (first_a != first_b) {
        return first_a < first_b;
    }
    return !oldest && left_a != left_b ? left_a < left_b : a->order < b->order;
}

static struct sched_seq *sched_next_prompt(const struct sched *s, bool oldest)
{
    struct sched_seq *next = NULL;
    LIST_EACH(&s->running, node)
    {
        struct sched_seq *seq = sched_seq_of(node);
        if (!seq->paused && !sched_is_decoding(seq) && seq->set_aside != s->turn &&
            (next == NULL || sched_reads_before(s, seq, next, oldest))) {
            next = seq;
        }
    }
    return next;
}

/* Rows of its prompt for this step: as many as fit the budget, of many those up to a page's end. */
static uint32_t sched_chunk(const struct sched *s, const struct sched_seq *seq, double budget_ns,
                            bool first)
{
    uint32_t left = seq->n_tokens - seq->n_cached;
    uint32_t room = s->conf.rows_max - s->plan.load.n_rows;
    uint32_t n =
        cost_rows_within(s->cost, &s->plan.load, seq->n_cached, MIN(left, room), budget_ns);
    uint32_t end = (seq->n_cached + n) / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    if (n < left && n >= SCHED_ALIGN_ROWS_MIN) {
        n = end - seq->n_cached;
    }
    if (first) {
        n = MAX(n, MIN(MIN(left, room), (uint32_t)SCHED_PROMPT_ROWS_MIN));
    }
    return n;
}

static void sched_add_prompts(struct sched *s, double budget_ns)
{
    struct sched_seq *seq;
    bool first = true;
    bool oldest = s->turn % SCHED_OLDEST_TURNS == 0;
    while (s->plan.n_rows < s->conf.running_max &&
           (seq = sched_next_prompt(s, first && oldest)) != NULL) {
        uint32_t n = sched_chunk(s, seq, budget_ns, first);
        if (n == 0) {
            return;
        }
        seq->set_aside = s->turn;
        if (sched_grow(s, seq, seq->n_cached + n)) {
            sched_add(s, seq, n);
            first = false;
        }
    }
}

/* ---- guesses ---- */

/* The tokens that a step is worth: an answer's as much as its tenant is charged for it. */
static double sched_worth(double n_output, double n_input)
{
    return n_output * FAIR_OUTPUT_WEIGHT + n_input * FAIR_INPUT_WEIGHT;
}

struct sched_draft_choice {
    uint32_t n;
    double n_output; /* expected tokens more */
};

/* How many guesses of a sequence pay: each is right if all before it are. */
static struct sched_draft_choice
sched_choose_draft(const struct sched *s, const struct sched_seq *seq, uint32_t n_max, double worth)
{
    struct sched_draft_choice best = {0};
    double best_rate = sched_draft_gain * worth / cost_ns(s->cost, &s->plan.load);
    double chance = 1;
    double expected = 0;
    for (uint32_t n = 1; n <= n_max; n++) {
        struct cost_load with = s->plan.load;
        with.n_rows += n;
        with.n_logits += n;
        with.decode_keys += (uint64_t)n * seq->n_tokens;
        chance *= (double)seq->draft_chance;
        expected += chance;
        double rate = (worth + sched_worth(expected, 0)) / cost_ns(s->cost, &with);
        if (rate > best_rate) {
            best_rate = rate;
            best = (struct sched_draft_choice){n, expected};
        }
    }
    return best;
}

/* Pages for guesses come from the free ones alone. */
static uint32_t sched_draft_room(struct sched *s, struct sched_seq *seq, uint32_t n)
{
    kv_page_id page;
    while (sched_pages_for(seq->n_tokens + n) > seq->n_pages && prefix_page_get(s->prefix, &page)) {
        seq->page_ids[seq->n_pages++] = page.id;
    }
    return MIN(n, seq->n_pages * KV_PAGE_TOKENS - seq->n_tokens);
}

static void sched_add_drafts(struct sched *s)
{
    struct sched_plan *plan = &s->plan;
    double worth = sched_worth(plan->load.n_logits, plan->load.n_rows - plan->load.n_logits);
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        struct sched_row *row = &plan->rows[i];
        struct sched_seq *seq = row->seq;
        if (!row->wants_logits || row->n_rows > 1 || seq->n_draft == 0) {
            continue;
        }
        ASSERT(seq->n_draft <= SCHED_DRAFT_MAX);
        ASSERT(seq->n_tokens + seq->n_draft <= seq->n_tokens_max);
        uint32_t n_max =
            MIN(s->conf.rows_max - plan->load.n_rows, s->conf.logits_max - plan->load.n_logits);
        struct sched_draft_choice choice =
            sched_choose_draft(s, seq, MIN(n_max, seq->n_draft), worth);
        uint32_t n = choice.n > 0 ? sched_draft_room(s, seq, choice.n) : 0;
        row->n_draft = n;
        row->n_rows += n;
        plan->load.n_rows += n;
        plan->load.n_logits += n;
        plan->load.decode_keys += (uint64_t)n * seq->n_tokens;
        worth += sched_worth(choice.n_output, 0);
    }
}

/* ---- a step ---- */

/* Rows of sequences that were preempted after they had been planned are dropped. */
static void sched_drop_preempted(struct sched *s)
{
    struct sched_plan *plan = &s->plan;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const struct sched_row *row = &plan->rows[i];
        if (row->seq->running) {
            plan->rows[kept++] = *row;
            continue;
        }
        plan->load.n_rows -= row->n_rows;
        plan->load.n_logits -= row->wants_logits ? 1 : 0;
    }
    plan->n_rows = kept;
}

double sched_stretch(double budget_ns, double decode_ns)
{
    double stretched = MIN(sched_stretch_max * decode_ns, sched_stretch_budgets * budget_ns);
    return MAX(budget_ns, MAX(stretched, sched_stretch_min * decode_ns));
}

const struct sched_plan *sched_plan(struct sched *s, uint64_t now_ns, uint64_t budget_ns)
{
    struct sched_plan *plan = &s->plan;
    s->now_ns = now_ns;
    s->turn++;
    plan->n_rows = plan->n_copies = 0;
    plan->load = (struct cost_load){0};
    sched_admit(s);
    sched_add_decoding(s);
    double budget = (double)budget_ns;
    if (plan->n_rows == 0) {
        budget *= sched_budget_alone;
    } else {
        budget = sched_stretch(budget, cost_ns(s->cost, &plan->load));
    }
    sched_add_prompts(s, budget);
    sched_drop_preempted(s);
    sched_add_drafts(s);
    plan->predicted_ns = cost_ns(s->cost, &plan->load);
    return plan;
}
