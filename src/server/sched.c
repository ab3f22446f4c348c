/* sched.c: the lines, admission and preemption, under a fixed number of KV pages.
 *
 * Invariants:
 * 1. A sequence on `running` holds ceil(n_cached / 32) pages or more; one on `waiting` holds none.
 * 2. n_cached < n_tokens for every sequence at planning time.
 * 3. A step always makes progress while any sequence is not paused: a single one fits in all pages
 *    (sched_submit asserts it), and nothing is taken from the one of the best level that was
 *    admitted first.
 * 4. A preempted sequence keeps its stamp: within its level it is admitted before new ones, and
 *    taken from after them. Levels only get better with time, so in the end every sequence is
 *    the one of invariant 3.
 * 5. A paused sequence is never admitted, and keeps its place and pages only while nobody needs
 *    them: a reader that takes nothing costs the others nothing. */
#include "server/sched.h"

#include "base/assert.h"
#include "base/mem.h"
#include "server/sched_private.h"

enum {
    SCHED_OUTPUT_GUESS = 128,  /* tokens of an answer, before any has ended */
    SCHED_GROWTH_TOKENS = 512, /* output that room is kept for at most */
};

static const double sched_growth_start = 0.4;
static const double sched_growth_min = 0.2;

void sched_init(struct sched *s, const struct sched_conf *conf, struct prefix *prefix,
                struct cost *cost)
{
    ASSERT(conf->rows_max > 0);
    ASSERT(conf->running_max > 0 && conf->running_max <= conf->rows_max);
    ASSERT(conf->logits_max >= conf->running_max);
    ASSERT(conf->aging_ns > 0);
    *s = (struct sched){.conf = *conf,
                        .pages = prefix->kv,
                        .prefix = prefix,
                        .cost = cost,
                        .next_stamp = 1,
                        .growth = sched_growth_start,
                        .output_mean = SCHED_OUTPUT_GUESS};
    s->plan.rows = mem_zalloc_array(conf->running_max, sizeof(*s->plan.rows));
    s->plan.copies = mem_zalloc_array(conf->running_max, sizeof(*s->plan.copies));
    list_init(&s->waiting);
    list_init(&s->running);
}

void sched_deinit(struct sched *s)
{
    ASSERT(s->n_waiting == 0 && s->n_running == 0);
    mem_free(s->plan.rows);
    mem_free(s->plan.copies);
    *s = (struct sched){0};
}

uint32_t sched_level(const struct sched *s, const struct sched_seq *seq, uint64_t now_ns)
{
    uint64_t here_ns = now_ns > seq->arrived_ns ? now_ns - seq->arrived_ns : 0;
    uint64_t risen = here_ns / s->conf.aging_ns;
    return seq->class > risen ? seq->class - (uint32_t)risen : 0;
}

/* ---- lines ---- */

/* Those of a tenant (NULL: of all) that could run: a paused one takes nobody's place in line. */
static uint32_t sched_n_in_line(const struct sched *s, const struct fair_tenant *tenant)
{
    uint32_t n = 0;
    LIST_EACH(&s->waiting, node)
    {
        const struct sched_seq *seq = sched_seq_of(node);
        n += !seq->paused && (tenant == NULL || seq->tenant == tenant) ? 1 : 0;
    }
    return n;
}

bool sched_submit(struct sched *s, struct sched_seq *seq, uint64_t now_ns)
{
    uint32_t max = s->conf.waiting_max;
    ASSERT(seq->n_tokens > 0 && seq->n_cached == 0 && seq->n_pages == 0);
    ASSERT(seq->n_tokens <= seq->n_tokens_max);
    ASSERT(seq->n_pages_max <= kv_pages_total(s->pages));
    ASSERT(sched_pages_for(seq->n_tokens_max) <= seq->n_pages_max);
    ASSERT(seq->class < SCHED_CLASSES && seq->tenant != NULL);
    if (sched_n_in_line(s, NULL) >= max || sched_n_in_line(s, seq->tenant) >= max - max / 4) {
        return false;
    }
    seq->order = s->next_order++;
    seq->arrived_ns = now_ns;
    seq->n_prompt = seq->n_tokens;
    seq->n_to_read = sched_n_to_read(s, seq);
    list_push_back(&s->waiting, &seq->node);
    s->n_waiting++;
    return true;
}

static void sched_release_pages(struct sched *s, struct sched_seq *seq)
{
    while (seq->n_pages > 0) {
        /* From the tail on: the beginning of a text is what others may share. */
        prefix_page_put(s->prefix, (kv_page_id){seq->page_ids[--seq->n_pages]});
    }
    seq->n_cached = 0;
}

static void sched_unlink(struct sched *s, struct sched_seq *seq)
{
    list_remove(&seq->node);
    if (seq->running) {
        s->n_running--;
        seq->tenant->n_running--;
        sched_release_pages(s, seq);
        seq->running = false;
    } else {
        s->n_waiting--;
    }
}

void sched_remove(struct sched *s, struct sched_seq *seq)
{
    ASSERT(list_is_linked(&seq->node));
    if (seq->n_tokens > seq->n_prompt) {
        s->output_mean += 0.05 * (seq->n_tokens - seq->n_prompt - s->output_mean);
        s->growth = MAX(s->growth - 0.01, sched_growth_min);
    }
    sched_unlink(s, seq);
}

/* ---- preemption ---- */

static void sched_preempt(struct sched *s, struct sched_seq *seq)
{
    sched_unlink(s, seq);
    list_push_back(&s->waiting, &seq->node);
    s->n_waiting++;
    s->counts.n_preempted++;
}

/* Whether a stands behind b: it gives its pages before b does. */
static bool sched_is_behind(const struct sched *s, const struct sched_seq *a,
                            const struct sched_seq *b)
{
    uint32_t level_a = sched_level(s, a, s->now_ns);
    uint32_t level_b = sched_level(s, b, s->now_ns);
    return level_a != level_b ? level_a > level_b : a->stamp > b->stamp;
}

/* The running sequence that gives first: a paused one if there is any, else the one behind all
 * others. NULL when none runs. */
static struct sched_seq *sched_last(const struct sched *s)
{
    struct sched_seq *last = NULL;
    LIST_EACH(&s->running, node)
    {
        struct sched_seq *seq = sched_seq_of(node);
        if (last == NULL || (seq->paused && !last->paused) ||
            (seq->paused == last->paused && sched_is_behind(s, seq, last))) {
            last = seq;
        }
    }
    return last;
}

bool sched_grow(struct sched *s, struct sched_seq *seq, uint32_t n_tokens)
{
    uint32_t need = sched_pages_for(n_tokens);
    ASSERT(need <= seq->n_pages_max);
    while (seq->n_pages < need) {
        kv_page_id page;
        if (prefix_page_get(s->prefix, &page)) {
            seq->page_ids[seq->n_pages++] = page.id;
            continue;
        }
        struct sched_seq *last = sched_last(s);
        if (last == NULL || last == seq || (!last->paused && !sched_is_behind(s, last, seq))) {
            return false;
        }
        sched_preempt(s, last);
        s->growth = MIN(s->growth + 0.1, 1.0);
    }
    return true;
}

/* ---- admission ---- */

/* Whether a is admitted before b. */
static bool sched_is_before(const struct sched *s, const struct sched_seq *a,
                            const struct sched_seq *b)
{
    uint32_t level_a = sched_level(s, a, s->now_ns);
    uint32_t level_b = sched_level(s, b, s->now_ns);
    if (level_a != level_b) {
        return level_a < level_b;
    }
    if (a->stamp != b->stamp) {
        /* Who was there before goes on, the first first; new ones have none. */
        return b->stamp == 0 || (a->stamp != 0 && a->stamp < b->stamp);
    }
    if (a->tenant->served != b->tenant->served) {
        return a->tenant->served < b->tenant->served;
    }
    return a->order < b->order;
}

/* Whether its tenant may have one more running; paused ones do not count, they give way. */
static bool sched_is_within_cap(const struct sched *s, const struct fair_tenant *tenant)
{
    uint32_t max = s->conf.tenant_running_max;
    if (max == 0 || tenant->n_running < max) {
        return true;
    }
    uint32_t n = 0;
    LIST_EACH(&s->running, node)
    {
        const struct sched_seq *seq = sched_seq_of(node);
        n += seq->tenant == tenant && !seq->paused ? 1 : 0;
    }
    return n < max;
}

/* The next of those that this plan has not passed over, or NULL. */
static struct sched_seq *sched_first(const struct sched *s)
{
    struct sched_seq *first = NULL;
    LIST_EACH(&s->waiting, node)
    {
        struct sched_seq *seq = sched_seq_of(node);
        if (!seq->paused && seq->set_aside != s->turn && sched_is_within_cap(s, seq->tenant) &&
            (first == NULL || sched_is_before(s, seq, first))) {
            first = seq;
        }
    }
    return first;
}

/* The next to be admitted; those that wait for another's prefix are passed over. */
static struct sched_seq *sched_next_in_line(const struct sched *s)
{
    struct sched_seq *seq;
    while ((seq = sched_first(s)) != NULL && sched_is_being_computed(s, seq)) {
        seq->set_aside = s->turn;
    }
    return seq;
}

/* Pages of a sequence once it has grown as much as is to be expected. */
static uint32_t sched_pages_later(const struct sched *s, const struct sched_seq *seq)
{
    uint32_t n_more = MIN(seq->n_tokens_max - seq->n_tokens, (uint32_t)SCHED_GROWTH_TOKENS);
    uint32_t n_tokens = seq->n_tokens + (uint32_t)(s->growth * n_more);
    return sched_pages_for(MIN(n_tokens + 1, seq->n_tokens_max));
}

/* Whether there is a place and, for what is known and expected, room in the pages. */
static bool sched_has_room(const struct sched *s, const struct sched_seq *seq)
{
    if (s->n_running == 0) {
        return true;
    }
    if (s->n_running == s->conf.running_max) {
        return false;
    }
    uint32_t n_shared;
    (void)sched_count_hits(s, seq, &n_shared);
    uint32_t need = sched_pages_later(s, seq) - n_shared;
    LIST_EACH(&s->running, node)
    {
        const struct sched_seq *other = sched_seq_of(node);
        uint32_t later = sched_pages_later(s, other);
        need += later > other->n_pages ? later - other->n_pages : 0;
    }
    return kv_pages_left(s->pages) >= need;
}

/* Takes place and pages from who is paused or of a worse level. */
static bool sched_make_room(struct sched *s, const struct sched_seq *seq)
{
    struct sched_seq *last = sched_last(s);
    if (last == NULL ||
        (!last->paused && sched_level(s, last, s->now_ns) <= sched_level(s, seq, s->now_ns))) {
        return false;
    }
    sched_preempt(s, last);
    return true;
}

static void sched_start(struct sched *s, struct sched_seq *seq)
{
    bool is_new = seq->stamp == 0;
    list_remove(&seq->node);
    s->n_waiting--;
    seq->stamp = is_new ? s->next_stamp++ : seq->stamp;
    struct list_node *at = s->running.head.next;
    while (at != &s->running.head && sched_seq_of(at)->stamp < seq->stamp) {
        at = at->next;
    }
    list_insert_before(at, &seq->node);
    seq->running = true;
    seq->tenant->n_running++;
    s->n_running++;
    sched_take_prefix(s, seq);
    if (is_new) {
        seq->n_hit = seq->n_cached;
        seq->n_charged = seq->n_tokens;
        fair_charge(seq->tenant, seq->n_tokens - seq->n_hit, 0);
        s->counts.n_looked_up_tokens += seq->n_tokens;
        s->counts.n_hit_tokens += seq->n_hit;
    }
}

void sched_admit(struct sched *s)
{
    struct sched_seq *seq;
    while ((seq = sched_next_in_line(s)) != NULL) {
        while (!sched_has_room(s, seq)) {
            if (!sched_make_room(s, seq)) {
                return;
            }
        }
        sched_start(s, seq);
    }
}

/* ---- after a step ---- */

static void sched_advance(struct sched *s, struct sched_seq *seq, uint32_t n)
{
    uint32_t from = seq->n_cached;
    seq->n_cached += n;
    ASSERT(seq->n_cached <= seq->n_tokens);
    ASSERT(sched_pages_for(seq->n_cached) <= seq->n_pages);
    sched_note(s, seq, from);
    if (seq->n_cached > seq->n_charged) {
        fair_charge(seq->tenant, 0, seq->n_cached - seq->n_charged);
        seq->n_charged = seq->n_cached;
    }
}

void sched_done(struct sched *s)
{
    for (uint32_t i = 0; i < s->plan.n_rows; i++) {
        const struct sched_row *row = &s->plan.rows[i];
        sched_advance(s, row->seq, row->n_rows - row->n_draft);
    }
}

void sched_accept(struct sched *s, struct sched_seq *seq)
{
    ASSERT(seq->running);
    sched_advance(s, seq, 1);
}

/* ---- looking ---- */

uint32_t sched_n_waiting(const struct sched *s)
{
    return s->n_waiting;
}

uint32_t sched_n_running(const struct sched *s)
{
    return s->n_running;
}

const struct sched_counts *sched_counts(const struct sched *s)
{
    return &s->counts;
}

static uint32_t sched_check_line(const struct list *line, bool running, uint32_t *n_pages)
{
    uint32_t n = 0;
    uint64_t last = 0;
    for (const struct list_node *node = line->head.next; node != &line->head; node = node->next) {
        const struct sched_seq *seq = LIST_ENTRY(node, const struct sched_seq, node);
        ASSERT(seq->running == running);
        ASSERT(!running || seq->stamp > last);
        ASSERT(running || (seq->n_pages == 0 && seq->n_cached == 0));
        ASSERT(sched_pages_for(seq->n_cached) <= seq->n_pages);
        ASSERT(seq->n_pages <= seq->n_pages_max);
        last = seq->stamp;
        *n_pages += seq->n_pages;
        n++;
    }
    return n;
}

void sched_check(const struct sched *s)
{
    uint32_t n_pages = 0;
    ASSERT(sched_check_line(&s->waiting, false, &n_pages) == s->n_waiting);
    ASSERT(sched_check_line(&s->running, true, &n_pages) == s->n_running);
    /* Shared pages count for each that holds them. */
    uint32_t n_held = kv_pages_total(s->pages) - kv_pages_left(s->pages);
    ASSERT(n_pages >= n_held && (n_pages > 0) == (n_held > 0));
    kv_pages_check(s->pages);
    prefix_check(s->prefix);
}
