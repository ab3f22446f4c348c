/* answer_wait.c: claims that only Redis can decide (answer_mirror.h).
 *
 *   asking ──send──> asked ──reply──> hub's waits ──wake──> done, on its own loop
 *     ^                │ reply lost: again, under the same tag
 *     └────────────────┘
 *
 * Who has gone while it was asked (done NULL) and gets it all the same drops it, as any answer is
 * dropped that nobody wants. */
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/answer_mirror_private.h"

/* ---- what came out ---- */

static void wait_end_locked(struct answer_wait *w, enum answer_claim how)
{
    w->how = how;
    if (list_is_linked(&w->node)) {
        list_remove(&w->node);
    }
    w->under_way = false;
    if (w->done == NULL) {
        ASSERT(w->answer == NULL);
        mem_free(w);
        return;
    }
    list_push_back(&w->hub->waits, &w->node);
    loop_wake_send(w->hub->wake);
}

/* What was claimed for somebody who is gone. */
static void wait_drop_locked(struct answer_wait *w)
{
    if (w->answer != NULL && w->how == ANSWER_CLAIMED) {
        answers_end_locked(w->answer, ANSWER_DROPPED, true);
    }
    if (w->answer != NULL) {
        answer_put_locked(w->answer);
        w->answer = NULL;
    }
}

/* Nobody's so far: it is ours. */
static void wait_take_locked(struct answer_wait *w)
{
    w->answer = answers_new_locked(w->store, &w->marks, w->tag);
    w->from = 0;
    if (w->answer == NULL) {
        wait_end_locked(w, ANSWER_NO_ROOM); /* the claim dies without a beat */
        return;
    }
    answer_mirror_add_locked(w->answer);
    w->how = ANSWER_CLAIMED;
    if (w->done == NULL) {
        wait_drop_locked(w);
    }
    wait_end_locked(w, ANSWER_CLAIMED);
}

static void wait_follow_locked(struct answer_mirror *m, struct answer_wait *w,
                               const struct answer_claimed *found)
{
    struct str name = str_make((const char *)w->marks.name, ANSWER_NAME_BYTES);
    const struct answer *here = map_get(&w->store->by_name, name);
    if (here != NULL && here->tag == found->tag) { /* its end is not known there yet, or … */
        wait_end_locked(w, w->marks.has_last ? ANSWER_LOST : ANSWER_AWAY);
        return;
    }
    if (w->done == NULL) {
        wait_end_locked(w, ANSWER_FOUND);
        return;
    }
    w->answer = answer_follow_locked(m, &w->marks, found);
    w->from = w->marks.has_last ? w->marks.last.number + 1 : 0;
    wait_end_locked(w, w->answer != NULL ? ANSWER_FOUND : ANSWER_NO_ROOM);
}

static void wait_answer_locked(struct answer_mirror *m, struct answer_wait *w,
                               const struct answer_claimed *c)
{
    static const enum answer_claim others[ANSWER_WIRE_N] = {
        [ANSWER_WIRE_OTHER_BODY] = ANSWER_OTHER_BODY,
        [ANSWER_WIRE_LOST] = ANSWER_LOST,
        [ANSWER_WIRE_OVERRUN] = ANSWER_OVERRUN,
    };
    enum answer_claim here = answers_look_locked(w->store, &w->marks, &w->answer, &w->from);
    if (here != ANSWER_ASK) { /* somebody else here was faster */
        w->how = here;
        if (w->done == NULL) {
            wait_drop_locked(w);
        }
        wait_end_locked(w, here);
    } else if (c->how == ANSWER_WIRE_NEW) {
        wait_take_locked(w);
    } else if (c->how == ANSWER_WIRE_FOUND) {
        wait_follow_locked(m, w, c);
    } else {
        wait_end_locked(w, others[c->how]);
    }
}

static void wait_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct answer_wait *w = ctx;
    struct answers *st = w->store;
    struct answer_mirror *m = st->mirror;
    struct answer_claimed claimed;
    answers_lock(st);
    list_remove(&w->node);
    w->under_way = false;
    if (rc != RC_OK && w->done != NULL) {
        w->lost = true;
        list_push_back(&m->asking, &w->node);
    } else if (rc != RC_OK) {
        wait_end_locked(w, ANSWER_AWAY);
    } else if (!answer_wire_read_claim(reply, &claimed)) {
        answer_mirror_refused(reply);
        wait_end_locked(w, ANSWER_AWAY);
    } else {
        wait_answer_locked(m, w, &claimed);
    }
    answers_unlock(st);
    answer_mirror_pump(m);
}

/* ---- asking ---- */

static enum rc wait_send(struct answer_mirror *m, struct answer_wait *w)
{
    struct answer_keys keys;
    char tag[ANSWER_WIRE_TAG_BYTES], last[ANSWER_WIRE_TAG_BYTES];
    char from[STR_U64_BYTES], dead[STR_U64_BYTES], keep[STR_U64_BYTES];
    const struct answer_marks *k = &w->marks;
    answer_wire_keys(k->name, &keys);
    answer_wire_tag(w->tag, tag);
    answer_wire_tag(k->last.tag, last);
    const struct str words[] = {
        str_from(keys.hash),
        str_from(keys.blocks),
        str_make(tag, sizeof(tag)),
        str_make((const char *)k->scope, sizeof(k->scope)),
        str_make((const char *)k->body, sizeof(k->body)),
        str_make(last, k->has_last ? sizeof(last) : 0),
        str_make(from, str_put_u64(from, k->has_last ? k->last.number + 1 : 0)),
        str_make(dead, str_put_u64(dead, w->store->conf.dead_ms)),
        str_make(keep, str_put_u64(keep, w->store->conf.keep_ms)),
    };
    return redis_eval(m->redis, m->script_claim, words, ARRAY_LEN(words), 2, wait_on_reply, w);
}

void answer_wait_send_locked(struct answer_mirror *m)
{
    struct list_node *n;
    while ((n = list_pop_front(&m->asking)) != NULL) {
        struct answer_wait *w = LIST_ENTRY(n, struct answer_wait, node);
        w->under_way = true;
        list_push_back(&m->asked, &w->node);
        answers_unlock(m->store);
        enum rc rc = wait_send(m, w);
        answers_lock(m->store);
        if (rc != RC_OK) {
            list_remove(&w->node);
            w->under_way = false;
            if (w->done == NULL) {
                wait_end_locked(w, ANSWER_AWAY);
            } else {
                list_push_front(&m->asking, &w->node);
            }
            return;
        }
    }
}

void answer_wait_sweep_locked(struct answer_mirror *m, bool now_away)
{
    uint64_t now = answer_mirror_now_ms(m);
    LIST_EACH(&m->asking, n)
    {
        struct answer_wait *w = LIST_ENTRY(n, struct answer_wait, node);
        if (now >= w->until_ms || (now_away && !w->lost)) {
            wait_end_locked(w, ANSWER_AWAY);
        }
    }
}

/* ---- who waits ---- */

struct answer_wait *answer_wait_start(struct answer_hub *hub, const struct answer_ask *ask,
                                      answer_wait_cb done, void *ctx)
{
    struct answers *st = hub->store;
    struct answer_wait *w = mem_try_zalloc(sizeof(*w));
    if (w == NULL) {
        return NULL;
    }
    w->store = st;
    w->hub = hub;
    w->done = done;
    w->ctx = ctx;
    w->until_ms = clock_mono_ms(loop_clock(hub->loop)) + st->conf.claim_ms;
    crypto_random(&w->tag, sizeof(w->tag));
    bool ok = answers_mark_ask(st, ask, &w->marks);
    ASSERT(ok); /* answers_claim has seen it */
    answers_lock(st);
    if (st->mirror != NULL) {
        list_push_back(&st->mirror->asking, &w->node);
        answer_mirror_wake_locked(st->mirror);
    } else {
        wait_end_locked(w, ANSWER_AWAY); /* the mirror has gone in between */
    }
    answers_unlock(st);
    return w;
}

void answer_wait_cancel(struct answer_wait *w)
{
    struct answers *st = w->store;
    answers_lock(st);
    w->done = NULL;
    if (!w->under_way) {
        wait_drop_locked(w);
        wait_end_locked(w, ANSWER_AWAY);
    }
    answers_unlock(st);
}

void answer_wait_tell(struct answer_hub *h)
{
    struct answers *st = h->store;
    answers_lock(st);
    struct list_node *n;
    while ((n = list_pop_front(&h->waits)) != NULL) {
        struct answer_wait *w = LIST_ENTRY(n, struct answer_wait, node);
        answers_unlock(st);
        w->done(w->ctx, w->how, w->answer, w->from);
        mem_free(w);
        answers_lock(st);
    }
    answers_unlock(st);
}

void answer_wait_stop(struct answer_mirror *m)
{
    LIST_EACH(&m->asked, n)
    {
        struct answer_wait *w = LIST_ENTRY(n, struct answer_wait, node);
        redis_forget(m->redis, w);
        wait_end_locked(w, ANSWER_AWAY);
    }
    LIST_EACH(&m->asking, k)
    {
        wait_end_locked(LIST_ENTRY(k, struct answer_wait, node), ANSWER_AWAY);
    }
}
