/* answer_mirror.c: see answer_mirror.h; what the mirror's loop does, and when. Not here: the
 * commands themselves (answer_wait.c, answer_tell.c, answer_follow.c). */
#include "gateway/answer_mirror.h"

#include "base/assert.h"
#include "base/mem.h"
#include "gateway/answer_mirror_private.h"
#include "obs/log.h"

void answer_mirror_wake_locked(struct answer_mirror *m)
{
    loop_wake_send(m->wake);
}

void answer_mirror_refused(const struct redis_reply *reply)
{
    struct str why = reply->type == REDIS_FAILED ? reply->text : STR_LIT("not what was asked for");
    log_event(LOG_ANSWERS_FAIL, log_str(LOG_KEY_ERROR, why));
}

/* ---- leaving ---- */

static bool mirror_has_ends_locked(const struct answer_mirror *m)
{
    LIST_EACH(&m->mine, n)
    {
        if (LIST_ENTRY(n, struct answer, share.kept)->over) {
            return true;
        }
    }
    return false;
}

static void mirror_look_left(struct answer_mirror *m)
{
    if (m->on_left == NULL) {
        return;
    }
    answers_lock(m->store);
    bool more = mirror_has_ends_locked(m);
    answers_unlock(m->store);
    if (!more || !redis_is_ready(m->redis) || answer_mirror_now_ms(m) >= m->leave_ms) {
        void (*on_left)(void *ctx) = m->on_left;
        m->on_left = NULL;
        on_left(m->on_left_ctx);
    }
}

void answer_mirror_leave(struct answer_mirror *m, void (*on_done)(void *ctx), void *ctx)
{
    ASSERT(m->on_left == NULL);
    m->on_left = on_done;
    m->on_left_ctx = ctx;
    m->leave_ms = answer_mirror_now_ms(m) + ANSWER_LEAVE_MS;
    answer_mirror_pump(m);
}

/* ---- the turn ---- */

void answer_mirror_pump(struct answer_mirror *m)
{
    bool ready = redis_is_ready(m->redis);
    answers_lock(m->store);
    if (ready) {
        answer_tell_send_locked(m, &m->ended);
        if (list_is_empty(&m->ended)) {
            answer_wait_send_locked(m);
        }
        answer_tell_send_locked(m, &m->untold);
        answer_follow_send_locked(m);
    } else if (m->heard) {
        answer_wait_sweep_locked(m, true);
    }
    bool busy = !list_is_empty(&m->asking) || !list_is_empty(&m->mine) ||
                !list_is_empty(&m->followed) || m->on_left != NULL;
    answers_unlock(m->store);
    if (busy && !loop_timer_is_armed(&m->tick)) {
        loop_timer_start(&m->tick, ANSWER_TICK_MS);
    }
    mirror_look_left(m);
}

static void mirror_on_tick(void *ctx)
{
    struct answer_mirror *m = ctx;
    answers_lock(m->store);
    answer_wait_sweep_locked(m, false);
    answer_tell_sweep_locked(m);
    answer_follow_sweep_locked(m);
    answers_unlock(m->store);
    answer_mirror_pump(m);
}

static void mirror_on_wake(void *ctx)
{
    answer_mirror_pump(ctx);
}

static void mirror_on_state(void *ctx, bool ready)
{
    struct answer_mirror *m = ctx;
    UNUSED(ready);
    m->heard = true;
    answer_mirror_pump(m);
}

/* ---- life ---- */

enum rc answer_mirror_create(struct answer_mirror **out, struct answers *st, struct loop *l,
                             struct redis *redis, struct err *err)
{
    struct answer_mirror *m = mem_zalloc(sizeof(*m));
    struct list *const lists[] = {&m->asking, &m->asked, &m->mine,
                                  &m->untold, &m->ended, &m->followed};
    *out = NULL;
    m->store = st;
    m->loop = l;
    m->redis = redis;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        list_init(lists[i]);
    }
    loop_timer_init(&m->tick, l, mirror_on_tick, m);
    enum rc rc = loop_wake_create(&m->wake, l, mirror_on_wake, m, err);
    if (rc != RC_OK) {
        mem_free(m);
        return rc;
    }
    m->script_claim = redis_script_add(redis, answer_script_claim);
    m->script_tell = redis_script_add(redis, answer_script_tell);
    m->script_read = redis_script_add(redis, answer_script_read);
    redis_watch(redis, mirror_on_state, m);
    answers_lock(st);
    ASSERT(st->mirror == NULL);
    st->mirror = m;
    answers_unlock(st);
    *out = m;
    return RC_OK;
}

void answer_mirror_destroy(struct answer_mirror *m)
{
    if (m == NULL) {
        return;
    }
    answers_lock(m->store);
    answer_wait_stop(m);
    answer_tell_stop(m);
    answer_follow_stop(m);
    m->store->mirror = NULL;
    answers_unlock(m->store);
    loop_timer_stop(&m->tick);
    loop_wake_destroy(m->wake);
    mem_free(m);
}
