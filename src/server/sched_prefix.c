/* sched_prefix.c: the scheduler's dealings with the prefix cache.
 *
 * A sequence takes whole pages from the cache by holding them: they are full, so nobody writes to
 * them any more. The tokens that its next page shares with some page are copied to a page of its
 * own. The last known token is never taken: its logits are wanted. */
#include <string.h>

#include "base/assert.h"
#include "server/sched_private.h"

static struct prefix_place sched_place(const struct sched_seq *seq, uint32_t page)
{
    return (struct prefix_place){seq->root, page > 0 ? seq->keys[page - 1] : seq->root};
}

void sched_make_keys(const struct sched *s, struct sched_seq *seq)
{
    while (seq->n_keys < seq->n_tokens / KV_PAGE_TOKENS) {
        struct prefix_place at = sched_place(seq, seq->n_keys);
        seq->keys[seq->n_keys] = prefix_key(
            s->prefix, at.parent, seq->tokens + seq->n_keys * KV_PAGE_TOKENS, KV_PAGE_TOKENS);
        seq->n_keys++;
    }
}

/* ---- looking ---- */

/* The page of the cache that holds the seq's idx-th, or PREFIX_NONE. */
static uint32_t sched_find(const struct sched *s, const struct sched_seq *seq, uint32_t idx)
{
    if ((idx + 1) * KV_PAGE_TOKENS >= seq->n_tokens) {
        return PREFIX_NONE;
    }
    struct prefix_place at = sched_place(seq, idx);
    return prefix_find(s->prefix, &at, seq->keys[idx], seq->tokens + idx * KV_PAGE_TOKENS);
}

uint32_t sched_count_hits(const struct sched *s, const struct sched_seq *seq, uint32_t *n_held)
{
    uint32_t n = 0;
    uint32_t id;
    *n_held = 0;
    while ((id = sched_find(s, seq, n)) != PREFIX_NONE) {
        *n_held += kv_page_n_holds(s->pages, (kv_page_id){id}) > 0 ? 1 : 0;
        n++;
    }
    return n;
}

uint32_t sched_n_to_read(struct sched *s, struct sched_seq *seq)
{
    uint32_t n_held;
    sched_make_keys(s, seq);
    return seq->n_tokens - sched_count_hits(s, seq, &n_held) * KV_PAGE_TOKENS;
}

/* Whether `other` will soon have tokens of page n that seq can use. */
static bool sched_computes(const struct sched_seq *other, const struct sched_seq *seq, uint32_t n)
{
    if (n < seq->n_keys && n < other->n_keys) {
        return hash128_eq(other->keys[n], seq->keys[n]) &&
               other->n_cached < (n + 1) * KV_PAGE_TOKENS;
    }
    /* The last, broken page of a prompt: of use when the prompts are the same. */
    uint32_t n_prompt = seq->n_prompt;
    uint32_t n_tail = n_prompt - n * KV_PAGE_TOKENS;
    return n == seq->n_keys && other->n_prompt == n_prompt && other->n_cached < n_prompt &&
           hash128_eq(other->root, seq->root) && n_tail > PREFIX_COPY_TOKENS_MIN &&
           (n == 0 || (n <= other->n_keys && hash128_eq(other->keys[n - 1], seq->keys[n - 1]))) &&
           memcmp(other->tokens + n * KV_PAGE_TOKENS, seq->tokens + n * KV_PAGE_TOKENS,
                  n_tail * sizeof(*seq->tokens)) == 0;
}

bool sched_is_being_computed(const struct sched *s, const struct sched_seq *seq)
{
    if (!s->prefix->on || seq->stamp != 0) {
        return false; /* who was preempted goes on */
    }
    uint32_t n_held;
    uint32_t n = sched_count_hits(s, seq, &n_held);
    uint32_t level = sched_level(s, seq, s->now_ns);
    if (!s->conf.copies && (n + 1) * KV_PAGE_TOKENS >= seq->n_tokens) {
        return false; /* of a prompt's last page it could take nothing */
    }
    LIST_EACH(&s->running, node)
    {
        const struct sched_seq *other = sched_seq_of(node);
        if (!other->paused && sched_level(s, other, s->now_ns) <= level &&
            sched_computes(other, seq, n)) {
            return true;
        }
    }
    return false;
}

/* ---- taking ---- */

static void sched_take_pages(struct sched *s, struct sched_seq *seq)
{
    uint32_t id;
    while ((id = sched_find(s, seq, seq->n_pages)) != PREFIX_NONE) {
        kv_page_hold(s->pages, (kv_page_id){id});
        seq->page_ids[seq->n_pages++] = id;
    }
    seq->n_cached = seq->n_pages * KV_PAGE_TOKENS;
}

static void sched_take_part(struct sched *s, struct sched_seq *seq)
{
    struct sched_plan *plan = &s->plan;
    if (!s->conf.copies || plan->n_copies == s->conf.running_max) {
        return;
    }
    struct prefix_place at = sched_place(seq, seq->n_pages);
    uint32_t n_left = MIN(seq->n_tokens - 1 - seq->n_cached, KV_PAGE_TOKENS - 1u);
    uint32_t n_same;
    uint32_t id = prefix_find_part(s->prefix, &at, seq->tokens + seq->n_cached, n_left, &n_same);
    if (id == PREFIX_NONE) {
        return;
    }
    kv_page_id from = {id};
    kv_page_id to;
    kv_page_hold(s->pages, from); /* else it might be the very page that is handed out */
    if (prefix_page_get(s->prefix, &to)) {
        plan->copies[plan->n_copies++] = (struct sched_copy){from, to};
        seq->page_ids[seq->n_pages++] = to.id;
        seq->n_cached += n_same;
    }
    kv_page_put(s->pages, from);
}

void sched_take_prefix(struct sched *s, struct sched_seq *seq)
{
    ASSERT(seq->n_pages == 0 && seq->n_cached == 0);
    sched_make_keys(s, seq);
    sched_take_pages(s, seq);
    sched_take_part(s, seq);
    ASSERT(seq->n_cached < seq->n_tokens);
}

void sched_note(struct sched *s, struct sched_seq *seq, uint32_t from)
{
    sched_make_keys(s, seq);
    for (uint32_t i = from / KV_PAGE_TOKENS; i * KV_PAGE_TOKENS < seq->n_cached; i++) {
        struct prefix_place at = sched_place(seq, i);
        uint32_t n = MIN(seq->n_cached - i * KV_PAGE_TOKENS, (uint32_t)KV_PAGE_TOKENS);
        prefix_note(s->prefix, (kv_page_id){seq->page_ids[i]}, &at,
                    seq->tokens + i * KV_PAGE_TOKENS, n);
    }
}
