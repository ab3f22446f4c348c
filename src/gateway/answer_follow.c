/* answer_follow.c: replicas: answers that another gateway writes, or wrote, fetched from Redis for
 * those who read them here (answer_mirror.h). One lasts while somebody has it, is listed under its
 * name until it has ended, and is fetched no faster than the slowest reader has room for. */
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/answer_mirror_private.h"

/* ---- its end ---- */

static void follow_end_locked(struct answer *a, enum answer_how how, bool cut)
{
    if (!a->over) {
        answer_over_locked(a, how, cut);
    }
    answer_unlist_locked(a);
}

static void follow_interrupt_locked(struct answer *a)
{
    a->interrupted = a->interrupted || !a->over;
    follow_end_locked(a, ANSWER_FAILED, true);
}

/* Redis has let go of what comes next: its readers were too slow, its writer lives. */
static void follow_overrun_locked(struct answer *a)
{
    a->overtaken = true;
    follow_end_locked(a, ANSWER_FAILED, true);
}

static void follow_drop_locked(struct answer *a)
{
    ASSERT(a->share.n_under_way == 0);
    follow_interrupt_locked(a);
    a->store->mirror->n_followed--;
    list_remove(&a->share.kept);
    answer_put_locked(a);
}

/* ---- what comes ---- */

static bool follow_begin_locked(struct answer *a, struct str sealed)
{
    struct answer_head head;
    struct buf text;
    buf_init(&text, 2 * ANSWER_WIRE_HEAD_BYTES);
    bool ok = answer_wire_open_head(a, sealed, &text, &head) == RC_OK &&
              answer_begin_locked(a, &head) == RC_OK;
    buf_deinit(&text);
    return ok;
}

static bool follow_blocks_locked(struct answer *a, const struct answer_news *news)
{
    for (uint32_t i = 0; i < news->n_blocks; i++) {
        struct answer_block *b = answer_wire_take_block(news->blocks[i].text);
        if (b == NULL || !answer_push_locked(a, b)) {
            mem_free(b);
            return false;
        }
    }
    return true;
}

/* Takes what is new. False: it cannot go on. *more: there is more to be fetched at once. */
static bool follow_take_locked(struct answer *a, const struct answer_news *news, bool *more)
{
    uint64_t at = a->first + a->n_blocks;
    bool has_head = a->begun || news->head.len == 0 || follow_begin_locked(a, news->head);
    if (has_head && news->first > at) {
        follow_overrun_locked(a);
        return true;
    }
    if (!has_head || (news->n_blocks > 0 && !a->begun) || !follow_blocks_locked(a, news)) {
        return false;
    }
    at += news->n_blocks;
    *more = at < news->n;
    if (*more) {
        return news->n_blocks > 0;
    }
    switch (news->state) {
    case 'r':
        return true;
    case 'i':
        return false;
    case 'd':
        follow_end_locked(a, ANSWER_DONE, news->cut);
        return true;
    case 'f':
        follow_end_locked(a, ANSWER_FAILED, news->cut);
        return true;
    default:
        follow_end_locked(a, ANSWER_DROPPED, news->cut);
        return true;
    }
}

/* What is not there may come back: a Redis that has forgotten all is told it anew. */
static void follow_news_locked(struct answer_mirror *m, struct answer *a,
                               const struct answer_news *news)
{
    bool more = false;
    if (news->state == '-') {
        return;
    }
    a->share.spoke_ms = answer_mirror_now_ms(m);
    if (!follow_take_locked(a, news, &more)) {
        follow_interrupt_locked(a);
    }
    a->share.again = more;
}

static void follow_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct answer *a = ctx;
    struct answers *st = a->store;
    struct answer_mirror *m = st->mirror;
    struct answer_news news;
    answers_lock(st);
    m->n_reads--;
    a->share.n_under_way--;
    if (rc == RC_OK && answer_wire_read_news(reply, &news)) {
        follow_news_locked(m, a, &news);
    } else if (rc == RC_OK) {
        answer_mirror_refused(reply);
    }
    if (a->over) {
        follow_drop_locked(a);
    }
    answers_unlock(st);
    answer_mirror_pump(m);
}

/* ---- fetching ---- */

static enum rc follow_send(struct answer_mirror *m, struct answer *a, uint64_t at, bool head)
{
    struct answer_keys keys;
    char tag[ANSWER_WIRE_TAG_BYTES], from[STR_U64_BYTES], dead[STR_U64_BYTES];
    answer_wire_keys(a->name, &keys);
    answer_wire_tag(a->tag, tag);
    const struct str words[] = {
        str_from(keys.hash),
        str_from(keys.blocks),
        str_make(tag, sizeof(tag)),
        str_make(from, str_put_u64(from, at)),
        head ? STR_LIT("1") : STR_LIT("0"),
        str_make(dead, str_put_u64(dead, a->store->conf.dead_ms)),
    };
    return redis_eval(m->redis, m->script_read, words, ARRAY_LEN(words), 2, follow_on_reply, a);
}

void answer_follow_send_locked(struct answer_mirror *m)
{
    uint32_t n = m->n_followed; /* those that wait stand behind those that were not asked for yet */
    while (n-- > 0 && m->n_reads < ANSWER_READS_MAX) {
        struct answer *a = LIST_ENTRY(list_first(&m->followed), struct answer, share.kept);
        list_remove(&a->share.kept);
        list_push_back(&m->followed, &a->share.kept);
        if (!a->share.again || a->share.n_under_way > 0) {
            continue;
        }
        if (answer_is_full_locked(a)) { /* it waits for its readers, not for Redis */
            a->share.spoke_ms = answer_mirror_now_ms(m);
            continue;
        }
        uint64_t at = a->first + a->n_blocks;
        bool head = !a->begun;
        a->share.again = false;
        a->share.n_under_way++;
        m->n_reads++;
        answers_unlock(m->store);
        enum rc rc = follow_send(m, a, at, head);
        answers_lock(m->store);
        if (rc != RC_OK) { /* the tick asks again */
            a->share.n_under_way--;
            m->n_reads--;
            return;
        }
    }
}

void answer_follow_sweep_locked(struct answer_mirror *m)
{
    uint64_t now = answer_mirror_now_ms(m);
    LIST_EACH(&m->followed, n)
    {
        struct answer *a = LIST_ENTRY(n, struct answer, share.kept);
        bool wanted = a->n_refs > 1u + (a->listed ? 1 : 0);
        if (a->share.n_under_way > 0) {
            continue;
        }
        if (!wanted || now - a->share.spoke_ms >= m->store->conf.dead_ms) {
            follow_drop_locked(a);
        } else {
            a->share.again = true;
        }
    }
}

/* ---- life ---- */

struct answer *answer_follow_locked(struct answer_mirror *m, const struct answer_marks *marks,
                                    const struct answer_claimed *found)
{
    struct answer *a = answers_new_locked(m->store, marks, found->tag);
    if (a == NULL) {
        return NULL;
    }
    a->share.replica = a->share.again = true;
    a->share.spoke_ms = answer_mirror_now_ms(m);
    a->first = found->first;
    a->overrun = found->first > 0;
    answer_hold_locked(a);
    list_push_back(&m->followed, &a->share.kept);
    m->n_followed++;
    answer_mirror_wake_locked(m);
    return a;
}

void answer_follow_stop(struct answer_mirror *m)
{
    LIST_EACH(&m->followed, n)
    {
        struct answer *a = LIST_ENTRY(n, struct answer, share.kept);
        redis_forget(m->redis, a);
        a->share.n_under_way = 0;
        follow_drop_locked(a);
    }
}
