/* lease.c: see lease.h.
 *
 *   asking ──lease_pump──> asked ──answer──> door.done ──wake──> done, on its own loop
 *      ^                     │ spent here, idle elsewhere
 *      └──────tick────────── later
 *
 * Invariants
 * 1. One script is under way at a time; its subjects are `batch`.
 * 2. Lists, doors and buckets are behind the limiter's lock; no callback is called under it.
 * 3. A wait is on exactly one list from its start until it is done or cancelled. */
#include "gateway/lease.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "gateway/lease_wire.h"
#include "net/loop.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { LEASE_ASKS_MAX = 8, LEASE_STORE_BYTES = 33 };

struct lease_door {
    struct lease_keeper *keeper;
    struct limiter *limiter; /* outlives the keeper */
    struct loop *loop;
    struct loop_wake *wake;
    struct list done;
};

struct lease_keeper {
    struct loop *loop;
    struct redis *redis;
    struct limiter *limiter;
    uint32_t script;
    char id[LEASE_ID_BYTES], store[LEASE_STORE_BYTES];
    struct loop_wake *wake;
    struct loop_timer tick;
    struct list asking, asked, later;

    struct limit_leases *batch[LEASE_BATCH_MAX];
    struct lease_packed packed[LEASE_BATCH_MAX];
    uint32_t n_batch;
    uint32_t n_scan; /* subjects still to be looked at in this tick */
    uint64_t n_ticks;
    uint64_t ttl_ms;
    uint64_t sent_ns, good_ns; /* the script under way; the last one that was answered */
    bool under_way;
    bool heard; /* whether Redis answers is known */
    bool told;  /* the log knows the mode */
    bool young; /* Redis leases nothing yet */

    void (*on_left)(void *ctx); /* leaving */
    void *on_left_ctx;
    uint32_t n_byes; /* scripts that said goodbye */
};

static struct limit_time lease_now(const struct loop *l)
{
    const struct clock *c = loop_clock(l);
    return (struct limit_time){.mono_ns = clock_mono_ns(c), .wall_s = clock_wall_s(c)};
}

/* ---- who waits ---- */

/* The lock is held. */
static void lease_wait_move(struct lease_wait *w, struct list *to)
{
    if (list_is_linked(&w->node)) {
        list_remove(&w->node);
    }
    list_push_back(to, &w->node);
}

static void lease_wait_end(struct lease_wait *w, bool granted)
{
    w->granted = granted;
    lease_wait_move(w, &w->door->done);
    loop_wake_send(w->door->wake);
}

/* Takes what is here. */
static void lease_wait_settle(struct lease_keeper *k, struct lease_wait *w, struct limit_time now)
{
    lease_wait_end(w, limit_reserve_all(k->limiter, w->subjects, w->n, &w->ask, now, true,
                                        w->ticket, w->result));
}

/* How the subjects stand of a wait that is short of something: whether the store has said that it
 * has no more of it, and whether others have it idle. */
static bool lease_wait_is_spent(const struct lease_keeper *k, const struct lease_wait *w,
                                bool *elsewhere)
{
    uint64_t need[LIMIT_UNITS];
    bool spent = true;
    *elsewhere = false;
    limit_lease_needs(&w->ask, w->ask.output_tokens, need);
    for (uint32_t i = 0; i < w->n; i++) {
        const struct limit_bucket *b = limit_bucket_find(k->limiter, w->subjects[i].name);
        if (b == NULL || b->leases == NULL) {
            continue;
        }
        for (unsigned u = 0; u < LIMIT_UNITS; u++) {
            const struct limit_lease *lease = &b->leases->of[u];
            if (limit_lease_limit(&b->leases->limits, u) != 0 && lease->idle < need[u]) {
                spent = spent && lease->spent;
                *elsewhere = *elsewhere || lease->elsewhere;
            }
        }
    }
    return spent;
}

static void lease_wait_answer(struct lease_keeper *k, struct lease_wait *w, struct limit_time now)
{
    bool elsewhere = false;
    if (limit_reserve_all(k->limiter, w->subjects, w->n, &w->ask, now, false, w->ticket,
                          w->result)) {
        lease_wait_end(w, true);
    } else if (w->result->refused != LIMIT_ASK) {
        lease_wait_end(w, false);
    } else if (!lease_wait_is_spent(k, w, &elsewhere) && !k->young &&
               ++w->n_asks < LEASE_ASKS_MAX) {
        lease_wait_move(w, &k->asking); /* others here were faster */
    } else if (k->young || (elsewhere && now.mono_ns < w->until_ns)) {
        w->again_ns = now.mono_ns + LEASE_AGAIN_MS * 1000000u;
        lease_wait_move(w, &k->later);
    } else {
        lease_wait_settle(k, w, now);
    }
}

/* The store is away: by policy. */
static void lease_end_waits(struct lease_keeper *k)
{
    struct limit_time now = lease_now(k->loop);
    struct list *const lists[] = {&k->asking, &k->asked, &k->later};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        LIST_EACH(lists[i], n)
        {
            lease_wait_settle(k, LIST_ENTRY(n, struct lease_wait, node), now);
        }
    }
}

/* ---- the next script ---- */

static bool lease_add(struct lease_keeper *k, struct limit_leases *s)
{
    if (s->in_batch) {
        return true;
    }
    if (k->n_batch == LEASE_BATCH_MAX) {
        return false;
    }
    s->in_batch = true;
    k->batch[k->n_batch++] = s;
    return true;
}

/* Whether all of its subjects have room in the batch; they are in it then, with its needs. */
static bool lease_add_wait(struct lease_keeper *k, const struct lease_wait *w)
{
    uint64_t need[LIMIT_UNITS];
    if (k->n_batch + w->n > LEASE_BATCH_MAX) {
        return false;
    }
    limit_lease_needs(&w->ask, w->ask.output_tokens, need);
    for (uint32_t i = 0; i < w->n; i++) {
        struct limit_bucket *b = NULL;
        if (limit_is_none(w->subjects[i].limits) || w->subjects[i].here ||
            (b = limit_bucket_find(k->limiter, w->subjects[i].name)) == NULL ||
            !limit_lease_open(b)) {
            continue;
        }
        b->leases->limits = *w->subjects[i].limits;
        for (unsigned u = 0; u < LIMIT_UNITS; u++) {
            b->leases->need[u] += need[u];
        }
        (void)lease_add(k, b->leases);
    }
    return true;
}

static bool lease_is_empty(const struct limit_leases *s)
{
    for (unsigned u = 0; u < LIMIT_UNITS; u++) {
        const struct limit_lease *l = &s->of[u];
        if (l->idle != 0 || l->reserved != 0 || l->used != 0 || l->back != 0) {
            return false;
        }
    }
    return !s->sent && !s->stale;
}

/* Whether there is something to tell, to give back or to fetch ahead. */
static bool lease_is_due(const struct lease_keeper *k, struct limit_leases *s)
{
    bool tell = k->n_ticks % (LEASE_TELL_MS / LEASE_TICK_MS) == 0;
    uint64_t window = k->n_ticks / (LEASE_WINDOW_MS / LEASE_TICK_MS);
    bool due = s->sent || s->stale || k->on_left != NULL;
    for (unsigned u = 0; u < LIMIT_UNITS; u++) {
        struct limit_lease *l = &s->of[u];
        if (s->window != window) {
            l->taken_before = s->window + 1 == window ? l->taken : 0;
            l->taken = 0;
        }
        bool limited = limit_lease_limit(&s->limits, u) != 0;
        __int128 keep = limited ? lease_keep(l) : 0;
        due = due || (limited && l->idle > keep) || (limited && l->idle < keep / 2) ||
              ((tell || l->tight) && (l->used != 0 || l->back != 0));
    }
    s->window = window;
    return due;
}

static void lease_scan(struct lease_keeper *k)
{
    while (k->n_scan > 0 && k->n_batch < LEASE_BATCH_MAX) {
        struct list_node *n = list_pop_front(&k->limiter->live);
        if (n == NULL) {
            k->n_scan = 0;
            return;
        }
        k->n_scan--;
        struct limit_leases *s = LIST_ENTRY(n, struct limit_leases, live);
        if (lease_is_empty(s)) {
            k->limiter->n_live--; /* until it is taken from again */
            continue;
        }
        list_push_back(&k->limiter->live, n);
        if (lease_is_due(k, s)) {
            (void)lease_add(k, s);
        }
    }
}

/* The lock is held. Whether there is a script to be run. */
static bool lease_collect(struct lease_keeper *k, struct limit_time now)
{
    k->n_batch = 0;
    LIST_EACH(&k->later, n)
    {
        struct lease_wait *w = LIST_ENTRY(n, struct lease_wait, node);
        if (w->again_ns <= now.mono_ns) {
            lease_wait_move(w, &k->asking);
        }
    }
    LIST_EACH(&k->asking, n)
    {
        struct lease_wait *w = LIST_ENTRY(n, struct lease_wait, node);
        if (!lease_add_wait(k, w)) {
            break;
        }
        lease_wait_move(w, &k->asked);
    }
    lease_scan(k);
    struct lease_pack_how how = {.now = now,
                                 .leave = k->on_left != NULL,
                                 .away = now.mono_ns - k->good_ns > k->ttl_ms * 1000000u};
    for (uint32_t i = 0; i < k->n_batch; i++) {
        struct limit_leases *s = k->batch[i];
        lease_pack(s, &how, &k->packed[i]);
        s->in_batch = false;
        memset(s->need, 0, sizeof(s->need));
        if (!list_is_linked(&s->live)) {
            list_push_back(&k->limiter->live, &s->live);
            k->limiter->n_live++;
        }
    }
    bool beat = now.mono_ns - k->good_ns >= LEASE_BEAT_MS * (uint64_t)1000000u;
    return k->n_batch > 0 || k->on_left != NULL || k->limiter->mode != LIMIT_LEASED ||
           (beat && !list_is_empty(&k->limiter->live));
}

static void lease_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply);

static enum rc lease_send(struct lease_keeper *k)
{
    struct str words[1 + 4 + 2 * LEASE_BATCH_MAX];
    char ttl[STR_U64_BYTES];
    uint32_t n = 0;
    words[n++] = STR_LIT("bud:gateways");
    for (uint32_t i = 0; i < k->n_batch; i++) {
        words[n++] = str_from(k->packed[i].key);
    }
    uint32_t n_keys = n;
    words[n++] = str_from(k->id);
    words[n++] = str_make(ttl, str_put_u64(ttl, k->ttl_ms));
    words[n++] = str_from(k->store);
    /* Only the last word says goodbye: none may be left that would be told behind it. */
    bool bye = k->on_left != NULL && k->n_scan == 0;
    k->n_byes += bye ? 1 : 0;
    words[n++] = bye ? STR_LIT("1") : STR_LIT("0");
    for (uint32_t i = 0; i < k->n_batch; i++) {
        words[n++] = str_make((const char *)k->packed[i].numbers, sizeof(k->packed[i].numbers));
    }
    return redis_eval(k->redis, k->script, words, n, n_keys, lease_on_reply, k);
}

/* ---- away and back ---- */

static void lease_set_mode(struct lease_keeper *k, enum limit_mode mode)
{
    if (k->limiter->mode == mode && k->told) {
        return;
    }
    k->told = true;
    k->limiter->mode = mode;
    metric_set(metric_get(METRIC_LIMITS_SHARED), mode == LIMIT_LEASED ? 1 : 0);
    if (mode == LIMIT_LEASED) {
        log_event(LOG_LIMITS_SHARED, log_cstr("gateway", k->id));
    } else {
        log_event(LOG_LIMITS_AWAY, log_cstr("policy", mode == LIMIT_OPEN ? "open" : "closed"));
    }
}

static void lease_left(struct lease_keeper *k)
{
    void (*on_left)(void *ctx) = k->on_left;
    if (on_left != NULL) {
        k->on_left = NULL;
        loop_timer_stop(&k->tick);
        on_left(k->on_left_ctx);
    }
}

static void lease_lost(struct lease_keeper *k)
{
    struct limiter *l = k->limiter;
    pthread_mutex_lock(&l->lock);
    lease_set_mode(k, l->away);
    lease_end_waits(k);
    pthread_mutex_unlock(&l->lock);
    lease_left(k);
}

/* The lock is held. */
static void lease_pump_locked(struct lease_keeper *k, bool *lost)
{
    struct limit_time now = lease_now(k->loop);
    if (k->under_way || !redis_is_ready(k->redis) || !lease_collect(k, now)) {
        return;
    }
    k->sent_ns = now.mono_ns;
    k->under_way = lease_send(k) == RC_OK;
    *lost = !k->under_way;
}

static void lease_pump(struct lease_keeper *k)
{
    bool lost = k->heard && !redis_is_ready(k->redis);
    pthread_mutex_lock(&k->limiter->lock);
    lease_pump_locked(k, &lost);
    pthread_mutex_unlock(&k->limiter->lock);
    if (lost) {
        lease_lost(k);
    }
}

/* Whoever has used something of this day or month is told of too, though nothing of it is leased,
 * and so is who was heard of. */
static void lease_tell_all(struct limiter *l)
{
    uint32_t at = 0;
    void *value = NULL;
    while (map_next(&l->buckets, &at, NULL, &value)) {
        struct limit_bucket *b = value;
        bool used = b->day_used > 0 || b->month_used > 0 ||
                    (b->leases != NULL && b->leases->heard.epoch != 0);
        if (used && !str_starts(str_from(b->name), STR_LIT("upstream:")) && limit_lease_open(b) &&
            !list_is_linked(&b->leases->live)) {
            list_push_back(&l->live, &b->leases->live);
            l->n_live++;
        }
    }
}

/* What lies idle here was forgotten there; what is set aside is told again. The batch's own was
 * told just now. */
static void lease_start_anew(struct lease_keeper *k)
{
    for (uint32_t i = 0; i < k->n_batch; i++) {
        k->batch[i]->in_batch = true;
    }
    lease_tell_all(k->limiter);
    LIST_EACH(&k->limiter->live, n)
    {
        struct limit_leases *s = LIST_ENTRY(n, struct limit_leases, live);
        for (unsigned u = 0; u < LIMIT_UNITS && !s->in_batch; u++) {
            s->of[u].idle = 0;
        }
        s->stale = true; /* lease_unpack says otherwise of the batch */
    }
    for (uint32_t i = 0; i < k->n_batch; i++) {
        k->batch[i]->in_batch = false;
    }
    k->n_scan = k->limiter->n_live;
}

static void lease_take_answer(struct lease_keeper *k, const struct redis_reply *reply)
{
    struct limiter *l = k->limiter;
    struct limit_time now = lease_now(k->loop);
    k->good_ns = k->sent_ns;
    l->valid_ns = k->sent_ns + k->ttl_ms / 2 * 1000000u;
    lease_set_mode(k, LIMIT_LEASED);
    k->young = lease_reply_is_young(reply);
    if (!lease_reply_knows(reply)) {
        lease_start_anew(k);
    }
    for (uint32_t i = 0; i < k->n_batch; i++) {
        lease_unpack(k->batch[i], reply, i, now);
    }
    LIST_EACH(&k->asked, n)
    {
        lease_wait_answer(k, LIST_ENTRY(n, struct lease_wait, node), now);
    }
}

static void lease_on_reply(void *ctx, enum rc rc, const struct redis_reply *reply)
{
    struct lease_keeper *k = ctx;
    k->under_way = false;
    if (rc != RC_OK || !lease_reply_ok(reply, k->n_batch)) {
        if (rc == RC_OK && reply->type == REDIS_FAILED) {
            log_event(LOG_LIMITS_FAIL, log_str(LOG_KEY_ERROR, reply->text));
        }
        lease_lost(k);
        return;
    }
    pthread_mutex_lock(&k->limiter->lock);
    lease_take_answer(k, reply);
    pthread_mutex_unlock(&k->limiter->lock);
    /* After a goodbye Redis never knows this gateway: the second answer is the last in any case. */
    if (k->n_byes > 1 || (k->n_byes == 1 && k->n_scan == 0)) {
        lease_left(k);
        return;
    }
    lease_pump(k);
}

static void lease_on_tick(void *ctx)
{
    struct lease_keeper *k = ctx;
    loop_timer_start(&k->tick, LEASE_TICK_MS);
    pthread_mutex_lock(&k->limiter->lock);
    k->n_ticks++;
    if (k->on_left == NULL) { /* who leaves looks at each subject once */
        k->n_scan = k->limiter->n_live;
    }
    pthread_mutex_unlock(&k->limiter->lock);
    lease_pump(k);
}

static void lease_on_wake(void *ctx)
{
    lease_pump(ctx);
}

static void lease_on_state(void *ctx, bool ready)
{
    struct lease_keeper *k = ctx;
    k->heard = true;
    if (ready) {
        lease_pump(k);
    } else {
        lease_lost(k);
    }
}

/* ---- doors ---- */

static void lease_door_on_wake(void *ctx)
{
    struct lease_door *d = ctx;
    pthread_mutex_t *lock = &d->limiter->lock;
    for (;;) {
        pthread_mutex_lock(lock);
        struct list_node *n = list_pop_front(&d->done);
        pthread_mutex_unlock(lock);
        if (n == NULL) {
            return;
        }
        struct lease_wait *w = LIST_ENTRY(n, struct lease_wait, node);
        w->waits = false;
        w->done(w->ctx, w->granted);
    }
}

enum rc lease_door_open(struct lease_door **out, struct lease_keeper *k, struct loop *l,
                        struct err *err)
{
    struct lease_door *d = mem_zalloc(sizeof(*d));
    d->keeper = k;
    d->limiter = k->limiter;
    d->loop = l;
    list_init(&d->done);
    enum rc rc = loop_wake_create(&d->wake, l, lease_door_on_wake, d, err);
    if (rc != RC_OK) {
        mem_free(d);
        return rc;
    }
    *out = d;
    return RC_OK;
}

void lease_door_close(struct lease_door *d)
{
    if (d != NULL) {
        loop_wake_destroy(d->wake);
        d->wake = NULL;
    }
}

void lease_door_destroy(struct lease_door *d)
{
    if (d != NULL) {
        ASSERT(d->wake == NULL && list_is_empty(&d->done));
        mem_free(d);
    }
}

void lease_wait_start(struct lease_wait *w, struct lease_door *d,
                      const struct limit_subject *subjects, uint32_t n, const struct limit_ask *ask,
                      struct limit_ticket *t, struct limit_result *result)
{
    struct lease_keeper *k = d->keeper;
    ASSERT(!w->waits && w->done != NULL && n <= LIMIT_SUBJECTS_MAX);
    w->door = d;
    w->subjects = subjects;
    w->n = n;
    w->n_asks = 0;
    w->ask = *ask;
    w->ticket = t;
    w->result = result;
    w->until_ns = lease_now(d->loop).mono_ns + LEASE_AGAIN_MS_MAX * (uint64_t)1000000u;
    w->waits = true;
    pthread_mutex_lock(&k->limiter->lock);
    list_push_back(&k->asking, &w->node);
    pthread_mutex_unlock(&k->limiter->lock);
    loop_wake_send(k->wake);
}

void lease_wait_cancel(struct lease_wait *w)
{
    if (!w->waits) {
        return;
    }
    struct limiter *l = w->door->limiter;
    pthread_mutex_lock(&l->lock);
    if (list_is_linked(&w->node)) { /* unless the keeper is gone */
        list_remove(&w->node);
    }
    pthread_mutex_unlock(&l->lock);
    w->waits = false;
    limit_settle(l, w->ticket, 0, 0, lease_now(w->door->loop));
}

/* ---- life ---- */

enum rc lease_keeper_create(struct lease_keeper **out, struct loop *l,
                            const struct lease_conf *conf, struct err *err)
{
    unsigned char id[(LEASE_ID_BYTES - 1) / 2];
    struct lease_keeper *k = mem_zalloc(sizeof(*k));
    *out = NULL;
    k->loop = l;
    k->redis = conf->redis;
    k->limiter = conf->limiter;
    k->ttl_ms = conf->ttl_ms != 0 ? conf->ttl_ms : LEASE_TTL_MS;
    crypto_random(id, sizeof(id));
    crypto_hex(id, sizeof(id), k->id);
    ASSERT(conf->store.len > 0 && str_copy(k->store, sizeof(k->store), conf->store));
    list_init(&k->asking);
    list_init(&k->asked);
    list_init(&k->later);
    loop_timer_init(&k->tick, l, lease_on_tick, k);
    enum rc rc = loop_wake_create(&k->wake, l, lease_on_wake, k, err);
    if (rc != RC_OK) {
        mem_free(k);
        return rc;
    }
    k->script = redis_script_add(k->redis, lease_script);
    redis_watch(k->redis, lease_on_state, k);
    pthread_mutex_lock(&k->limiter->lock);
    k->limiter->away = conf->open ? LIMIT_OPEN : LIMIT_SHUT;
    k->limiter->n_gateways = MAX(conf->n_gateways, (uint64_t)1);
    k->limiter->mode = LIMIT_LEASED; /* until the first call has succeeded or failed */
    k->limiter->valid_ns = UINT64_MAX;
    k->good_ns = lease_now(l).mono_ns;
    pthread_mutex_unlock(&k->limiter->lock);
    loop_timer_start(&k->tick, LEASE_TICK_MS);
    *out = k;
    return RC_OK;
}

void lease_keeper_leave(struct lease_keeper *k, void (*on_done)(void *ctx), void *ctx)
{
    ASSERT(k->on_left == NULL);
    k->on_left = on_done;
    k->on_left_ctx = ctx;
    pthread_mutex_lock(&k->limiter->lock);
    k->n_scan = k->limiter->n_live;
    pthread_mutex_unlock(&k->limiter->lock);
    lease_pump(k);
}

void lease_keeper_destroy(struct lease_keeper *k)
{
    if (k == NULL) {
        return;
    }
    struct list *const lists[] = {&k->asking, &k->asked, &k->later};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        while (list_pop_front(lists[i]) != NULL) {} /* to be cancelled by who waits */
    }
    redis_forget(k->redis, k);
    loop_timer_stop(&k->tick);
    loop_wake_destroy(k->wake);
    mem_free(k);
}
