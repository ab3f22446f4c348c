/* answer_tell.c: answers of ours, told to Redis as they are written (answer_mirror.h).
 *
 * Each command tells the blocks behind those sent before it, and the end once there is one; several
 * may be under way, Redis keeps their order. When one is lost, all that Redis may not have is told
 * again from the last known number on, which changes nothing where it had come. */
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/answer_mirror_private.h"

/* ---- notes ---- */

void answer_mirror_add_locked(struct answer *a)
{
    struct answer_mirror *m = a->store->mirror;
    if (m != NULL) {
        answer_hold_locked(a);
        a->share.spoke_ms = answer_mirror_now_ms(m);
        list_push_back(&m->mine, &a->share.kept);
        answer_mirror_wake_locked(m);
    }
}

void answer_mirror_note_locked(struct answer *a)
{
    struct answer_mirror *m = a->store->mirror;
    struct answer_share *s = &a->share;
    if (m == NULL || s->replica || s->gone || !list_is_linked(&s->kept)) {
        return;
    }
    if (list_is_linked(&s->due) && a->over) {
        list_remove(&s->due);
    }
    if (!list_is_linked(&s->due)) {
        list_push_back(a->over ? &m->ended : &m->untold, &s->due);
        answer_mirror_wake_locked(m);
    }
}

static void tell_drop_locked(struct answer *a)
{
    struct answer_share *s = &a->share;
    ASSERT(s->n_under_way == 0);
    if (list_is_linked(&s->due)) {
        list_remove(&s->due);
    }
    list_remove(&s->kept);
    answer_put_locked(a);
}

static uint64_t tell_end_locked(const struct answer *a)
{
    return a->first + a->n_blocks;
}

/* ---- what comes back ---- */

static void tell_answer_locked(struct answer *a, int64_t n)
{
    struct answer_share *s = &a->share;
    if (n == ANSWER_TOLD_GONE) {
        s->gone = true;
    } else if (n == ANSWER_TOLD_GAP) {
        s->again = true;
        s->had = 0;
    } else {
        s->had = MIN((uint64_t)n, s->sent);
    }
}

static void tell_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct answer *a = ctx;
    struct answers *st = a->store;
    struct answer_mirror *m = st->mirror;
    struct answer_share *s = &a->share;
    int64_t n;
    answers_lock(st);
    m->n_writes--;
    s->n_under_way--;
    if (rc == RC_OK && answer_wire_read_told(reply, &n)) {
        tell_answer_locked(a, n);
    } else {
        s->again = true;
        if (rc == RC_OK) {
            answer_mirror_refused(reply);
        }
    }
    bool told = s->end_sent && !s->again && s->sent == tell_end_locked(a);
    if (s->n_under_way == 0 && (s->gone || told)) {
        tell_drop_locked(a);
    }
    answers_unlock(st);
    answer_mirror_pump(m);
}

/* ---- the next command ---- */

/* What one tells; the blocks are held. */
struct tell {
    struct answer_block *blocks[ANSWER_WRITE_BLOCKS];
    uint32_t n;
    uint64_t from;
    bool anew; /* the writer has nothing before it */
    bool end;
};

static void tell_collect_locked(struct answer *a, struct tell *t)
{
    struct answer_share *s = &a->share;
    size_t bytes = 0;
    t->from = MAX(s->sent, a->first);
    t->anew = t->from == a->first;
    while (t->n < ANSWER_WRITE_BLOCKS && bytes < ANSWER_WRITE_BYTES &&
           t->from + t->n < tell_end_locked(a)) {
        struct answer_block *b = a->blocks[a->n_gone + (t->from + t->n - a->first)];
        bool large = b->n_bytes > ANSWER_BLOCK_BYTES_MAX;
        if (large && t->n > 0) {
            break;
        }
        if (large) { /* the window there begins behind it */
            t->from++;
            t->anew = true;
            continue;
        }
        b->n_refs++;
        bytes += b->n_bytes;
        t->blocks[t->n++] = b;
    }
    s->sent = t->from + t->n;
    t->end = a->over && s->sent == tell_end_locked(a);
    s->end_sent = t->end;
}

static const char *tell_state_locked(const struct answer *a, const struct tell *t)
{
    return !t->end ? "r" : a->dropped ? "x" : a->failed ? "f" : "d";
}

static enum rc tell_send(struct answer_mirror *m, struct answer *a, const struct tell *t,
                         const char *state, struct str head)
{
    enum { FIXED = 13 };
    struct str words[FIXED + ANSWER_WRITE_BLOCKS];
    struct answer_keys keys;
    char tag[ANSWER_WIRE_TAG_BYTES], from[STR_U64_BYTES], keep[STR_U64_BYTES];
    char dead[STR_U64_BYTES], cap[STR_U64_BYTES];
    const struct answers_conf *conf = &a->store->conf;
    uint32_t n = 0;
    answer_wire_keys(a->name, &keys);
    answer_wire_tag(a->tag, tag);
    words[n++] = str_from(keys.hash);
    words[n++] = str_from(keys.blocks);
    words[n++] = str_make(tag, sizeof(tag));
    words[n++] = str_make((const char *)a->scope, sizeof(a->scope));
    words[n++] = str_make((const char *)a->body, sizeof(a->body));
    words[n++] = str_make(from, str_put_u64(from, t->from));
    words[n++] = t->anew ? STR_LIT("1") : STR_LIT("0");
    words[n++] = str_from(state);
    words[n++] = t->end && a->cut ? STR_LIT("1") : STR_LIT("0"); /* fixed once it is over */
    words[n++] = head;
    words[n++] = str_make(keep, str_put_u64(keep, conf->keep_ms));
    words[n++] = str_make(dead, str_put_u64(dead, conf->dead_ms));
    words[n++] = str_make(cap, str_put_u64(cap, conf->answer_bytes_max));
    ASSERT(n == FIXED);
    for (uint32_t i = 0; i < t->n; i++) {
        words[n++] = answer_wire_block(t->blocks[i]);
    }
    return redis_eval(m->redis, m->script_tell, words, n, 2, tell_on_reply, a);
}

/* Sends the next of `a`, which has left its list. False: nothing can be sent now. */
static bool tell_next_locked(struct answer_mirror *m, struct answer *a)
{
    struct answer_share *s = &a->share;
    struct tell t = {.n = 0};
    struct buf head;
    buf_init(&head, ANSWER_WIRE_HEAD_BYTES);
    tell_collect_locked(a, &t);
    const char *state = tell_state_locked(a, &t);
    bool with_head = a->begun && (!s->head_sent || t.anew); /* it may be forgotten there */
    s->head_sent = s->head_sent || with_head;
    s->n_under_way++;
    m->n_writes++;
    answers_unlock(m->store);
    enum rc rc = with_head ? answer_wire_seal_head(a, &head) : RC_OK; /* fixed once begun */
    rc = rc == RC_OK ? tell_send(m, a, &t, state, buf_str(&head)) : rc;
    buf_deinit(&head);
    answers_lock(m->store);
    for (uint32_t i = 0; i < t.n; i++) {
        answer_block_put(t.blocks[i]);
    }
    s->spoke_ms = answer_mirror_now_ms(m);
    if (rc != RC_OK) {
        s->n_under_way--;
        m->n_writes--;
        s->again = true;
        return false;
    }
    if (!t.end && s->sent < tell_end_locked(a)) {
        answer_mirror_note_locked(a);
    }
    return true;
}

void answer_tell_send_locked(struct answer_mirror *m, struct list *from)
{
    struct list_node *n;
    while (m->n_writes < ANSWER_WRITES_MAX && (n = list_pop_front(from)) != NULL) {
        struct answer *a = LIST_ENTRY(n, struct answer, share.due);
        /* Once it is told again, from the tick on, this is told with it. */
        if (!a->share.again && !tell_next_locked(m, a)) {
            return;
        }
    }
}

/* ---- what time brings ---- */

void answer_tell_sweep_locked(struct answer_mirror *m)
{
    uint64_t now = answer_mirror_now_ms(m);
    LIST_EACH(&m->mine, n)
    {
        struct answer *a = LIST_ENTRY(n, struct answer, share.kept);
        struct answer_share *s = &a->share;
        uint64_t keep_ms = a->dropped ? m->store->conf.dead_ms : m->store->conf.keep_ms;
        if (s->n_under_way > 0) {
            continue;
        }
        if (a->over && answers_now_ms(m->store) - a->ended_ms >= keep_ms) {
            tell_drop_locked(a); /* it would be forgotten there, too */
        } else if (s->again && now - s->spoke_ms >= ANSWER_AGAIN_MS) {
            s->again = s->head_sent = s->end_sent = false;
            s->sent = s->had;
            answer_mirror_note_locked(a);
        } else if (!s->again && !a->over &&
                   now - s->spoke_ms >= m->store->conf.dead_ms / ANSWER_BEATS) {
            answer_mirror_note_locked(a);
        }
    }
}

void answer_tell_stop(struct answer_mirror *m)
{
    LIST_EACH(&m->mine, n)
    {
        struct answer *a = LIST_ENTRY(n, struct answer, share.kept);
        redis_forget(m->redis, a);
        a->share.n_under_way = 0;
        tell_drop_locked(a);
    }
}
