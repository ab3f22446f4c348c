/* catalog.c: see catalog.h. The connection belongs to whichever runs: the first load, or the one
 * worker job that is under way. What this connection writes does not move its own data_version, so
 * that last uses written here never make the catalogue look changed. */
#include "gateway/catalog.h"

#include <pthread.h>

#include "base/assert.h"
#include "base/mem.h"
#include "obs/log.h"

struct catalog_touch {
    char id[META_KEY_ID_BYTES];
};

struct catalog {
    struct loop *loop;
    struct meta *meta;
    struct secret pepper;
    struct catalog_conf conf;
    struct str *models; /* of conf.local */
    struct cat *now;
    int64_t version, revision;
    struct loop_timer timer;
    bool looking;        /* a worker job is under way */
    bool destroyed;      /* while it was: freed when it is done */
    struct list readers; /* relays to the gateways */
    /* keys used since the last poll */
    pthread_mutex_t lock;
    struct catalog_touch *touches;
    uint32_t n_touches;
    atomic_uint turn; /* number of the poll to come; never 0 */
    /* the worker's while it looks */
    struct cat *fresh;          /* NULL when nothing had changed */
    struct keyring *fresh_keys; /* when no catalogue could be built of what has changed */
    struct catalog_touch *touching;
    uint32_t n_touching;
    int64_t touched_s;
    struct err err;
};

/* ---- on the worker ---- */

static enum rc catalog_reload(struct catalog *c)
{
    int64_t version = 0, revision = 0;
    enum rc rc = meta_data_version(c->meta, &version, &c->err);
    if (rc != RC_OK || version == c->version) {
        return rc;
    }
    rc = meta_revision(c->meta, &revision, &c->err);
    if (rc == RC_OK && revision != c->revision) {
        rc = cat_load(&c->fresh, c->meta, c->conf.kms, &c->pepper, &c->conf.local, &c->err);
        if (rc != RC_OK && keyring_load(&c->fresh_keys, c->meta, &c->pepper, NULL) != RC_OK) {
            c->fresh_keys = NULL;
        }
    }
    /* A catalogue that cannot be built is complained of once, not every second; a store that cannot
     * be read is asked again: a key may have been revoked in it. */
    if (rc != RC_IO && rc != RC_NOMEM) {
        c->version = version;
        c->revision = revision;
    }
    return rc;
}

static void catalog_look(void *ctx)
{
    struct catalog *c = ctx;
    c->err = (struct err){0};
    c->fresh = NULL;
    c->fresh_keys = NULL;
    enum rc rc = catalog_reload(c);
    for (uint32_t i = 0; rc == RC_OK && i < c->n_touching; i++) {
        rc = meta_key_touch(c->meta, c->touching[i].id, c->touched_s, &c->err);
    }
    ASSERT(rc == c->err.code);
}

/* ---- on the loop ---- */

static void *catalog_get_cat(void *cat)
{
    cat_hold(cat);
    return cat;
}

static void catalog_put_cat(void *cat)
{
    cat_put(cat);
}

static void catalog_on_timer(void *ctx);

/* A catalogue that cannot be built keeps no key alive: those that have ended do so in the one that
 * stays in force. */
static void catalog_end_keys(struct catalog *c)
{
    for (uint32_t i = 0; i < keyring_size(c->now->keys); i++) {
        struct cat_key *k = &c->now->by_key[i];
        k->gone = k->gone || !keyring_is_valid(c->fresh_keys, k->row);
    }
    keyring_destroy(c->fresh_keys);
    c->fresh_keys = NULL;
}

static void catalog_looked(void *ctx, enum rc rc)
{
    struct catalog *c = ctx;
    c->looking = false;
    if (c->destroyed) {
        catalog_destroy(c);
        return;
    }
    if (rc != RC_OK) {
        return; /* cancelled: the loop is ending */
    }
    if (c->err.code != RC_OK) {
        log_event(LOG_STORE_FAIL, log_err(&c->err), log_err_code(&c->err));
    }
    if (c->fresh_keys != NULL) {
        catalog_end_keys(c);
    }
    if (c->fresh != NULL) {
        cat_put(c->now);
        c->now = c->fresh;
        c->fresh = NULL;
        log_event(LOG_CATALOG, log_u64("keys", keyring_size(c->now->keys)),
                  log_u64("models", c->now->set.models.n),
                  log_u64("upstreams", c->now->set.upstreams.n));
        relay_send(&c->readers, c->now, catalog_get_cat);
    }
    loop_timer_start(&c->timer, CATALOG_POLL_MS);
}

static void catalog_on_timer(void *ctx)
{
    struct catalog *c = ctx;
    struct loop_job job = {.run = catalog_look, .done = catalog_looked, .ctx = c};
    pthread_mutex_lock(&c->lock);
    struct catalog_touch *touches = c->touching;
    c->touching = c->touches;
    c->n_touching = c->n_touches;
    c->touches = touches;
    c->n_touches = 0;
    unsigned turn = atomic_load_explicit(&c->turn, memory_order_relaxed) + 1;
    atomic_store_explicit(&c->turn, turn != 0 ? turn : 1, memory_order_relaxed);
    pthread_mutex_unlock(&c->lock);
    c->touched_s = clock_wall_s(loop_clock(c->loop));
    c->looking = loop_work_start(NULL, c->loop, &job, NULL) == RC_OK;
    if (!c->looking) {
        loop_timer_start(&c->timer, CATALOG_POLL_MS);
    }
}

void catalog_touch(struct catalog *c, struct cat_key *k)
{
    unsigned turn = atomic_load_explicit(&c->turn, memory_order_relaxed);
    if (atomic_load_explicit(&k->touched, memory_order_relaxed) == turn ||
        atomic_exchange_explicit(&k->touched, turn, memory_order_relaxed) == turn) {
        return; /* the usual case takes no lock */
    }
    pthread_mutex_lock(&c->lock);
    if (c->n_touches < CATALOG_TOUCHES_MAX) {
        str_copy(c->touches[c->n_touches++].id, META_KEY_ID_BYTES, str_from(k->row->id));
    }
    pthread_mutex_unlock(&c->lock);
}

enum rc catalog_follow(struct catalog *c, struct relay **out, struct loop *to,
                       void (*on_cat)(void *ctx, void *cat), void *ctx, struct err *err)
{
    const struct relay_conf conf = {
        .to = to, .readers = &c->readers, .on_value = on_cat, .ctx = ctx, .put = catalog_put_cat};
    return relay_create(out, &conf, err);
}

/* ---- life ---- */

enum rc catalog_create(struct catalog **out, struct loop *l, struct meta *meta,
                       const struct catalog_conf *conf, struct err *err)
{
    *out = NULL;
    struct catalog *c = mem_zalloc(sizeof(*c));
    uint32_t n = conf->local.n_models;
    c->loop = l;
    list_init(&c->readers);
    pthread_mutex_init(&c->lock, NULL);
    atomic_init(&c->turn, 1);
    c->conf = *conf;
    c->pepper = *conf->pepper;
    c->models = mem_zalloc_array(MAX(n, 1u), sizeof(*c->models));
    c->touches = mem_zalloc_array(CATALOG_TOUCHES_MAX, sizeof(*c->touches));
    c->touching = mem_zalloc_array(CATALOG_TOUCHES_MAX, sizeof(*c->touching));
    for (uint32_t i = 0; i < n; i++) {
        c->models[i] = conf->local.models[i];
    }
    c->conf.local.models = c->models;
    enum rc rc = meta_data_version(meta, &c->version, err);
    rc = rc == RC_OK ? meta_revision(meta, &c->revision, err) : rc;
    rc = rc == RC_OK ? cat_load(&c->now, meta, conf->kms, &c->pepper, &c->conf.local, err) : rc;
    if (rc != RC_OK) {
        catalog_destroy(c);
        return rc;
    }
    c->meta = meta;
    loop_timer_init(&c->timer, l, catalog_on_timer, c);
    loop_timer_start(&c->timer, CATALOG_POLL_MS);
    *out = c;
    return RC_OK;
}

void catalog_destroy(struct catalog *c)
{
    if (c == NULL) {
        return;
    }
    loop_timer_stop(&c->timer);
    if (c->looking) {
        c->destroyed = true;
        return;
    }
    cat_put(c->now);
    cat_put(c->fresh);
    keyring_destroy(c->fresh_keys);
    meta_close(c->meta);
    secret_wipe(&c->pepper);
    mem_free(c->models);
    mem_free(c->touches);
    mem_free(c->touching);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

struct cat *catalog_now(const struct catalog *c)
{
    return c->now;
}
