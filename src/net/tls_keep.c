/* tls_keep.c: see tls_keep.h.
 *
 *   timer, reload -> look (worker: stamp of the files, load if it differs) -> looked: swap
 *
 * Invariants: at most one look is under way; while it is, the worker alone has `fresh`, `seen` and
 * `err`; memory goes back only when none is. */
#include "net/tls_keep.h"

#include "base/arena.h"
#include "base/assert.h"
#include "base/mem.h"
#include "net/loop.h"
#include "net/relay.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { TLS_KEEP_ARENA_BYTES_MAX = 16 << 10 };

struct tls_keep {
    struct loop *loop;
    struct arena arena; /* of conf's strings */
    struct tls_keep_conf conf;
    struct tls_ctx *now;
    uint64_t stamp, loaded_ms, n_loads;
    struct loop_timer timer;
    bool looking, forced, again, destroyed;
    struct list followers; /* relays to them */
    struct relay *leader;  /* what comes from it; NULL: it looks by itself */
    /* of the look under way */
    struct tls_ctx *fresh;
    uint64_t seen;
    struct err err;
};

static void tls_keep_free(struct tls_keep *k)
{
    tls_ctx_put(k->now);
    tls_ctx_put(k->fresh);
    arena_deinit(&k->arena);
    mem_free(k);
}

static void *tls_keep_get_ctx(void *ctx)
{
    return tls_ctx_hold(ctx);
}

static void tls_keep_put_ctx(void *ctx)
{
    tls_ctx_put(ctx);
}

/* On a worker. */
static void tls_keep_look(void *ctx)
{
    struct tls_keep *k = ctx;
    k->err = (struct err){0};
    k->seen = tls_files_stamp(&k->conf.tls);
    if (k->forced || k->seen != k->stamp) {
        /* A failure is in k->err: the loop's thread says it. */
        (void)!tls_ctx_load(&k->fresh, &k->conf.tls, &k->err);
    }
}

static void tls_keep_swap(struct tls_keep *k)
{
    if (k->err.code != RC_OK) {
        metric_add(metric_get(METRIC_TLS_LOAD_FAILURES), 1);
        log_event(LOG_TLS_LOAD_FAIL, log_err(&k->err), log_err_code(&k->err));
    } else if (k->fresh != NULL) {
        tls_ctx_put(k->now);
        k->now = k->fresh;
        k->fresh = NULL;
        k->stamp = k->seen;
        k->loaded_ms = loop_now_ms(k->loop);
        k->n_loads++;
        log_event(LOG_TLS_LOAD, log_str(LOG_KEY_FILE, k->conf.tls.cert));
        relay_send(&k->followers, k->now, tls_keep_get_ctx);
        if (k->conf.on_load != NULL) {
            k->conf.on_load(k->conf.ctx);
        }
    }
}

static void tls_keep_looked(void *ctx, enum rc rc)
{
    struct tls_keep *k = ctx;
    k->looking = false;
    if (k->destroyed) {
        tls_keep_free(k);
        return;
    }
    if (rc == RC_OK) {
        tls_keep_swap(k);
    }
    loop_timer_start(&k->timer, k->conf.look_ms);
    if (k->again) {
        k->again = false;
        tls_keep_reload(k);
    }
}

static void tls_keep_start(struct tls_keep *k)
{
    struct loop_job job = {.run = tls_keep_look, .done = tls_keep_looked, .ctx = k, .slow = true};
    k->looking = loop_work_start(NULL, k->loop, &job, NULL) == RC_OK;
    if (!k->looking) {
        loop_timer_start(&k->timer, k->conf.look_ms);
    }
}

static void tls_keep_on_timer(void *ctx)
{
    struct tls_keep *k = ctx;
    k->forced = loop_now_ms(k->loop) - k->loaded_ms >= TLS_KEEP_S * (uint64_t)1000;
    tls_keep_start(k);
}

void tls_keep_reload(struct tls_keep *k)
{
    ASSERT(k->leader == NULL);
    if (k->looking) {
        k->again = true;
        return;
    }
    loop_timer_stop(&k->timer);
    k->forced = true;
    tls_keep_start(k);
}

/* ---- life ---- */

static bool tls_keep_copy(struct tls_keep *k)
{
    struct tls_conf *c = &k->conf.tls;
    struct str *pins = arena_alloc(&k->arena, (c->n_pins + 1) * sizeof(*pins));
    c->cert = arena_str(&k->arena, c->cert);
    c->key = arena_str(&k->arena, c->key);
    c->ca = arena_str(&k->arena, c->ca);
    bool good = pins != NULL && c->cert.ptr != NULL && c->key.ptr != NULL && c->ca.ptr != NULL;
    for (uint32_t i = 0; good && i < c->n_pins; i++) {
        pins[i] = arena_str(&k->arena, c->pins[i]);
        good = pins[i].ptr != NULL;
    }
    c->pins = pins;
    return good;
}

RC tls_keep_create(struct tls_keep **out, struct loop *l, const struct tls_keep_conf *conf,
                   struct err *err)
{
    if (conf->tls.n_pins > TLS_PINS_MAX) {
        return err_set(err, RC_INVALID, "%u pins: at most %d", conf->tls.n_pins, TLS_PINS_MAX);
    }
    struct tls_keep *k = mem_zalloc(sizeof(*k));
    enum rc rc = RC_OK;
    k->loop = l;
    k->conf = *conf;
    list_init(&k->followers);
    k->conf.look_ms = conf->look_ms != 0 ? conf->look_ms : TLS_KEEP_LOOK_MS;
    arena_init(&k->arena, TLS_KEEP_ARENA_BYTES_MAX);
    loop_timer_init(&k->timer, l, tls_keep_on_timer, k);
    if (!tls_keep_copy(k)) {
        rc = err_set(err, RC_INVALID, "TLS: names of files are too long");
    } else if (conf->later) {
        tls_keep_reload(k);
    } else {
        k->stamp = tls_files_stamp(&k->conf.tls);
        rc = tls_ctx_load(&k->now, &k->conf.tls, err);
        k->n_loads = 1;
        k->loaded_ms = loop_now_ms(l);
        loop_timer_start(&k->timer, k->conf.look_ms);
    }
    if (rc != RC_OK) {
        tls_keep_destroy(k);
        return rc;
    }
    *out = k;
    return RC_OK;
}

static void tls_keep_on_context(void *ctx, void *fresh)
{
    struct tls_keep *k = ctx;
    tls_ctx_put(k->now);
    k->now = fresh;
    k->n_loads++;
}

RC tls_keep_follow(struct tls_keep **out, struct loop *l, struct tls_keep *leader, struct err *err)
{
    struct tls_keep *k = mem_zalloc(sizeof(*k));
    const struct relay_conf relay = {.to = l,
                                     .readers = &leader->followers,
                                     .on_value = tls_keep_on_context,
                                     .ctx = k,
                                     .put = tls_keep_put_ctx};
    ASSERT(leader->leader == NULL && leader->now != NULL);
    k->loop = l;
    k->now = tls_ctx_hold(leader->now);
    k->n_loads = 1;
    list_init(&k->followers);
    enum rc rc = relay_create(&k->leader, &relay, err);
    if (rc != RC_OK) {
        tls_keep_free(k);
        return rc;
    }
    *out = k;
    return RC_OK;
}

void tls_keep_destroy(struct tls_keep *k)
{
    if (k == NULL) {
        return;
    }
    ASSERT(list_is_empty(&k->followers));
    relay_destroy(k->leader);
    loop_timer_stop(&k->timer);
    k->destroyed = true;
    if (!k->looking) {
        tls_keep_free(k);
    }
}

struct tls_ctx *tls_keep_now(const struct tls_keep *k)
{
    return k->now;
}

uint64_t tls_keep_loads(const struct tls_keep *k)
{
    return k->n_loads;
}
