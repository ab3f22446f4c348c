/* catalog.c: see catalog.h. The connection belongs to whichever runs: the first load, or the one
 * worker job that is under way. */
#include "gateway/catalog.h"

#include "base/assert.h"
#include "base/mem.h"
#include "obs/log.h"

struct catalog {
    struct loop *loop;
    struct meta *meta;
    struct secret pepper;
    struct keyring *keys;
    int64_t version;
    struct loop_timer timer;
    bool looking;   /* a worker job is under way */
    bool destroyed; /* while it was: freed when it is done */
    /* the worker's */
    struct keyring *fresh; /* NULL when nothing had changed */
    struct err err;
};

static void catalog_look(void *ctx)
{
    struct catalog *c = ctx;
    int64_t version = 0;
    c->err = (struct err){0};
    c->fresh = NULL;
    enum rc rc = meta_data_version(c->meta, &version, &c->err);
    if (rc == RC_OK && version != c->version) {
        rc = keyring_load(&c->fresh, c->meta, &c->pepper, &c->err);
        c->version = rc == RC_OK ? version : c->version;
    }
    ASSERT(rc == c->err.code);
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
    } else if (c->fresh != NULL) {
        keyring_destroy(c->keys);
        c->keys = c->fresh;
        c->fresh = NULL;
    }
    loop_timer_start(&c->timer, CATALOG_POLL_MS);
}

static void catalog_on_timer(void *ctx)
{
    struct catalog *c = ctx;
    struct loop_job job = {.run = catalog_look, .done = catalog_looked, .ctx = c};
    c->looking = loop_work_start(NULL, c->loop, &job, NULL) == RC_OK;
    if (!c->looking) {
        loop_timer_start(&c->timer, CATALOG_POLL_MS);
    }
}

enum rc catalog_create(struct catalog **out, struct loop *l, struct meta *meta,
                       const struct secret *pepper, struct err *err)
{
    *out = NULL;
    struct catalog *c = mem_zalloc(sizeof(*c));
    c->loop = l;
    c->pepper = *pepper;
    enum rc rc = meta_data_version(meta, &c->version, err);
    rc = rc == RC_OK ? keyring_load(&c->keys, meta, pepper, err) : rc;
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
    keyring_destroy(c->keys);
    keyring_destroy(c->fresh);
    meta_close(c->meta);
    secret_wipe(&c->pepper);
    mem_free(c);
}

const struct keyring *catalog_keys(const struct catalog *c)
{
    return c->keys;
}
