/* sched.c: first come, first served, under a fixed number of KV pages.
 *
 * Invariants:
 * 1. A sequence on `running` holds ceil(n_cached / 32) pages or more; one on `waiting` holds none.
 * 2. n_cached < n_tokens for every sequence at planning time.
 * 3. A step always makes progress while any sequence is not paused: a single one fits in all pages
 *    (sched_submit asserts it), preemption takes from paused ones first, then from the youngest,
 *    never from the oldest that can run.
 * 4. A preempted sequence keeps its place in line by arrival, so that it is the next admitted.
 * 5. A paused sequence is never admitted, and keeps its place and pages only while nobody needs
 *    them: a reader that takes nothing costs the others nothing. */
#include "server/sched.h"

#include "base/assert.h"
#include "base/mem.h"
#include "engine/tensor/backend.h"

static uint32_t sched_pages_for(uint32_t n_tokens)
{
    return (n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
}

static struct sched_seq *sched_seq_of(struct list_node *node)
{
    return LIST_ENTRY(node, struct sched_seq, node);
}

void sched_init(struct sched *s, const struct sched_conf *conf, struct kv_pages *pages,
                struct prefix *prefix)
{
    ASSERT(conf->rows_max > 0);
    ASSERT(conf->running_max > 0 && conf->running_max <= conf->rows_max);
    ASSERT(conf->prefill_rows_max > 0);
    *s = (struct sched){.conf = *conf, .pages = pages, .prefix = prefix};
    s->copies = mem_zalloc_array(conf->running_max, sizeof(*s->copies));
    list_init(&s->waiting);
    list_init(&s->running);
}

void sched_deinit(struct sched *s)
{
    ASSERT(s->n_waiting == 0 && s->n_running == 0);
    mem_free(s->copies);
    *s = (struct sched){0};
}

/* ---- lines ---- */

static void sched_enqueue(struct sched *s, struct sched_seq *seq)
{
    struct list_node *at = s->waiting.head.next;
    while (at != &s->waiting.head && sched_seq_of(at)->order < seq->order) {
        at = at->next;
    }
    list_insert_before(at, &seq->node);
    s->n_waiting++;
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
        sched_release_pages(s, seq);
        seq->running = false;
    } else {
        s->n_waiting--;
    }
}

void sched_remove(struct sched *s, struct sched_seq *seq)
{
    ASSERT(list_is_linked(&seq->node));
    sched_unlink(s, seq);
}

static void sched_preempt(struct sched *s, struct sched_seq *seq)
{
    sched_unlink(s, seq);
    sched_enqueue(s, seq);
    s->counts.n_preempted++;
}

/* The youngest running sequence that is paused, or NULL. */
static struct sched_seq *sched_youngest_paused(const struct sched *s)
{
    struct list_node *node = s->running.head.prev;
    while (node != &s->running.head && !sched_seq_of(node)->paused) {
        node = node->prev;
    }
    return node != &s->running.head ? sched_seq_of(node) : NULL;
}

static bool sched_preempt_paused(struct sched *s)
{
    struct sched_seq *seq = sched_youngest_paused(s);
    if (seq != NULL) {
        sched_preempt(s, seq);
    }
    return seq != NULL;
}

/* ---- pages ---- */

/* Gives seq pages for its first n_tokens. Preempts running sequences, paused ones and then those
 * younger than it, while none is left; false when there is none to take from. */
static bool sched_grow(struct sched *s, struct sched_seq *seq, uint32_t n_tokens)
{
    uint32_t need = sched_pages_for(n_tokens);
    ASSERT(need <= seq->n_pages_max);
    while (seq->n_pages < need) {
        kv_page_id page;
        if (prefix_page_get(s->prefix, &page)) {
            seq->page_ids[seq->n_pages++] = page.id;
            continue;
        }
        if (sched_preempt_paused(s)) {
            continue;
        }
        struct sched_seq *youngest = sched_seq_of(s->running.head.prev);
        if (&youngest->node == &s->running.head || youngest->order <= seq->order) {
            return false;
        }
        sched_preempt(s, youngest);
    }
    return true;
}

/* ---- the prefix cache ---- */

static struct prefix_place sched_place(const struct sched_seq *seq, uint32_t page)
{
    return (struct prefix_place){seq->root, page > 0 ? seq->keys[page - 1] : seq->root};
}

/* Keys of all whole pages of the known tokens. */
static void sched_make_keys(const struct sched *s, struct sched_seq *seq)
{
    while (seq->n_keys < seq->n_tokens / KV_PAGE_TOKENS) {
        struct prefix_place at = sched_place(seq, seq->n_keys);
        seq->keys[seq->n_keys] = prefix_key(
            s->prefix, at.parent, seq->tokens + seq->n_keys * KV_PAGE_TOKENS, KV_PAGE_TOKENS);
        seq->n_keys++;
    }
}

/* The page of the cache that holds the seq's idx-th, or PREFIX_NONE. The last known token is
 * always computed, since its logits are wanted. */
static uint32_t sched_find(const struct sched *s, const struct sched_seq *seq, uint32_t idx)
{
    if ((idx + 1) * KV_PAGE_TOKENS >= seq->n_tokens) {
        return PREFIX_NONE;
    }
    struct prefix_place at = sched_place(seq, idx);
    return prefix_find(s->prefix, &at, seq->keys[idx], seq->tokens + idx * KV_PAGE_TOKENS);
}

/* Takes the whole pages that are there. */
static void sched_take_pages(struct sched *s, struct sched_seq *seq)
{
    uint32_t id;
    ASSERT(seq->n_pages == 0 && seq->n_cached == 0);
    while ((id = sched_find(s, seq, seq->n_pages)) != PREFIX_NONE) {
        kv_page_hold(s->pages, (kv_page_id){id});
        seq->page_ids[seq->n_pages++] = id;
    }
    seq->n_cached = seq->n_pages * KV_PAGE_TOKENS;
}

/* Takes the tokens that the next page shares with one in the cache, by a copy of its own. */
static void sched_take_part(struct sched *s, struct sched_seq *seq)
{
    struct prefix_place at = sched_place(seq, seq->n_pages);
    uint32_t n_left = MIN(seq->n_tokens - 1 - seq->n_cached, KV_PAGE_TOKENS - 1u);
    uint32_t n_same;
    uint32_t id = prefix_find_part(s->prefix, &at, seq->tokens + seq->n_cached, n_left, &n_same);
    if (id == PREFIX_NONE || !s->conf.copies || s->n_copies == s->conf.running_max) {
        return;
    }
    kv_page_id from = {id};
    kv_page_id to;
    kv_page_hold(s->pages, from); /* else it might be the very page that is handed out */
    if (prefix_page_get(s->prefix, &to)) {
        s->copies[s->n_copies++] = (struct sched_copy){from, to};
        seq->page_ids[seq->n_pages++] = to.id;
        seq->n_cached += n_same;
    }
    kv_page_put(s->pages, from);
}

static void sched_take_prefix(struct sched *s, struct sched_seq *seq)
{
    sched_make_keys(s, seq);
    sched_take_pages(s, seq);
    sched_take_part(s, seq);
    if (!seq->admitted) {
        seq->admitted = true;
        seq->n_hit = seq->n_cached;
        s->counts.n_looked_up_tokens += seq->n_tokens;
        s->counts.n_hit_tokens += seq->n_hit;
    }
}

/* Tells the cache of tokens [from, n_cached). */
static void sched_note(struct sched *s, struct sched_seq *seq, uint32_t from)
{
    sched_make_keys(s, seq);
    for (uint32_t i = from / KV_PAGE_TOKENS; i * KV_PAGE_TOKENS < seq->n_cached; i++) {
        struct prefix_place at = sched_place(seq, i);
        uint32_t n = MIN(seq->n_cached - i * KV_PAGE_TOKENS, (uint32_t)KV_PAGE_TOKENS);
        prefix_note(s->prefix, (kv_page_id){seq->page_ids[i]}, &at,
                    seq->tokens + i * KV_PAGE_TOKENS, n);
    }
}

/* Whether a sequence before this one in its prompt is computing the page that this one needs
 * next: it is there soon. */
static bool sched_is_being_computed(const struct sched *s, const struct sched_seq *seq)
{
    uint32_t n = 0;
    while (n < seq->n_keys && sched_find(s, seq, n) != PREFIX_NONE) {
        n++;
    }
    if ((n + 1) * KV_PAGE_TOKENS >= seq->n_tokens) {
        return false;
    }
    LIST_EACH(&s->running, node)
    {
        const struct sched_seq *other = sched_seq_of(node);
        if (!other->paused && other->n_keys > n && hash128_eq(other->keys[n], seq->keys[n]) &&
            other->n_cached < (n + 1) * KV_PAGE_TOKENS) {
            return true;
        }
    }
    return false;
}

/* ---- in line ---- */

/* Those that could run: a paused one takes nobody's place in line. */
static uint32_t sched_n_in_line(const struct sched *s)
{
    uint32_t n = 0;
    LIST_EACH(&s->waiting, node)
    {
        n += sched_seq_of(node)->paused ? 0 : 1;
    }
    return n;
}

bool sched_submit(struct sched *s, struct sched_seq *seq)
{
    ASSERT(seq->n_tokens > 0 && seq->n_cached == 0 && seq->n_pages == 0);
    ASSERT(seq->n_pages_max <= kv_pages_total(s->pages));
    ASSERT(sched_pages_for(seq->n_tokens) <= seq->n_pages_max);
    if (sched_n_in_line(s) >= s->conf.waiting_max) {
        return false;
    }
    seq->order = s->next_order++;
    sched_make_keys(s, seq);
    sched_enqueue(s, seq);
    return true;
}

/* ---- planning ---- */

/* The oldest that waits, is not paused and need not wait for another's prefix, or NULL. */
static struct sched_seq *sched_next_in_line(const struct sched *s)
{
    LIST_EACH(&s->waiting, node)
    {
        struct sched_seq *seq = sched_seq_of(node);
        if (!seq->paused && !sched_is_being_computed(s, seq)) {
            return seq;
        }
    }
    return NULL;
}

/* Pages that running sequences will ask for soon: a page each, and those of prompts that are still
 * being read. They stay in reserve, so that admission is not undone at once. */
static uint32_t sched_reserve(const struct sched *s)
{
    uint32_t reserve = s->n_running;
    LIST_EACH(&s->running, node)
    {
        const struct sched_seq *seq = sched_seq_of(node);
        uint32_t full = sched_pages_for(seq->n_tokens);
        reserve += full > seq->n_pages ? full - seq->n_pages : 0;
    }
    return reserve;
}

/* Whether there is a place and, for the known tokens and one more, room in the pages. */
static bool sched_has_room(const struct sched *s, const struct sched_seq *seq)
{
    uint32_t need = MIN(sched_pages_for(seq->n_tokens + 1), seq->n_pages_max);
    if (s->n_running == 0) {
        return true;
    }
    return s->n_running < s->conf.running_max && kv_pages_left(s->pages) >= need + sched_reserve(s);
}

/* Moves waiting sequences to running, oldest first; paused ones make room for them. */
static void sched_admit(struct sched *s)
{
    struct sched_seq *seq;
    while ((seq = sched_next_in_line(s)) != NULL) {
        while (!sched_has_room(s, seq)) {
            if (!sched_preempt_paused(s)) {
                return;
            }
        }
        list_remove(&seq->node);
        s->n_waiting--;
        struct list_node *at = s->running.head.next;
        while (at != &s->running.head && sched_seq_of(at)->order < seq->order) {
            at = at->next;
        }
        list_insert_before(at, &seq->node);
        seq->running = true;
        s->n_running++;
        sched_take_prefix(s, seq);
    }
}

static bool sched_is_decoding(const struct sched_seq *seq)
{
    return seq->n_tokens - seq->n_cached == 1;
}

static uint32_t sched_add(struct sched *s, struct sched_row *rows, uint32_t n,
                          struct sched_seq *seq, uint32_t n_rows)
{
    if (!sched_grow(s, seq, seq->n_cached + n_rows)) {
        return n;
    }
    rows[n] = (struct sched_row){seq, n_rows, seq->n_cached + n_rows == seq->n_tokens};
    return n + 1;
}

/* Rows of sequences that were preempted after they had been planned are dropped. */
static uint32_t sched_drop_preempted(struct sched_row *rows, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].seq->running) {
            rows[kept++] = rows[i];
        }
    }
    return kept;
}

uint32_t sched_plan(struct sched *s, struct sched_row *rows)
{
    s->n_copies = 0;
    sched_admit(s);
    uint32_t n = 0;
    uint32_t left = s->conf.rows_max;
    for (struct list_node *node = s->running.head.next; node != &s->running.head;
         node = node->next) {
        struct sched_seq *seq = sched_seq_of(node);
        ASSERT(seq->n_cached < seq->n_tokens);
        if (!seq->paused && sched_is_decoding(seq) && left > 0) {
            n = sched_add(s, rows, n, seq, 1);
            left--;
        }
    }
    if (n > 0) {
        left = MIN(left, s->conf.prefill_rows_max);
    }
    for (struct list_node *node = s->running.head.next; node != &s->running.head && left > 0;
         node = node->next) {
        struct sched_seq *seq = sched_seq_of(node);
        if (!seq->paused && !sched_is_decoding(seq)) {
            uint32_t n_rows = MIN(left, seq->n_tokens - seq->n_cached);
            n = sched_add(s, rows, n, seq, n_rows);
            left -= n_rows;
        }
    }
    return sched_drop_preempted(rows, n);
}

void sched_done(struct sched *s, const struct sched_row *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct sched_seq *seq = rows[i].seq;
        uint32_t from = seq->n_cached;
        seq->n_cached += rows[i].n_rows;
        ASSERT(seq->n_cached <= seq->n_tokens);
        ASSERT(sched_pages_for(seq->n_cached) <= seq->n_pages);
        sched_note(s, seq, from);
    }
}

const struct sched_copy *sched_copies(const struct sched *s, uint32_t *n)
{
    *n = s->n_copies;
    return s->copies;
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
        ASSERT(n == 0 || seq->order > last);
        ASSERT(running || (seq->n_pages == 0 && seq->n_cached == 0));
        ASSERT(sched_pages_for(seq->n_cached) <= seq->n_pages);
        ASSERT(seq->n_pages <= seq->n_pages_max);
        last = seq->order;
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
