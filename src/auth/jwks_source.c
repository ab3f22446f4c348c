/* jwks_source.c: see jwks_source.h. */
#include "auth/jwks_source.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "net/fetch.h"
#include "net/relay.h"
#include "obs/log.h"
#include "obs/metric.h"

struct jwks_source {
    struct loop *loop;
    struct jwks_source_conf conf;
    struct jwt_issuer issuer; /* in the arena */
    struct arena arena;
    struct jwks *keys;                       /* in force */
    unsigned char hash[CRYPTO_SHA256_BYTES]; /* of the text they came from */
    uint32_t version;
    uint64_t asked_ms, answered_ms; /* 0 = never; loop's time */
    uint64_t retry_ms;              /* behind the next failure */
    struct loop_timer timer;        /* the next request */
    struct loop_timer old_timer;    /* the keys are too old */
    bool asking, destroyed;
    atomic_bool stop;
    struct list followers;   /* relays to them */
    struct loop_wake *asked; /* one of them wants newer keys; NULL: there are none */
    /* one that follows */
    struct jwks_source *leader; /* NULL: it asks by itself */
    struct relay *news;
    uint64_t ask_after_ms; /* what the leader would refuse is not asked for */
    /* the worker's while it asks */
    struct jwks *fresh;
    unsigned char fresh_hash[CRYPTO_SHA256_BYTES];
    uint64_t fresh_s;
    struct err err;
};

/* What followers are told: the outcome of a request, or that there will be none. */
struct jwks_news {
    atomic_uint n_refs;
    struct jwks *keys; /* a reference; NULL = none are in force */
    uint32_t version;
    uint64_t ask_after_ms; /* no request before then */
    bool asking;
};

/* ---- on a worker ---- */

static enum rc source_read_answer(struct jwks_source *s, const struct fetch_reply *reply)
{
    const char *url = s->issuer.jwks_url.ptr;
    struct str text = buf_str(&reply->body);
    if (reply->status != 200) {
        return err_set(&s->err, RC_UNAVAILABLE, "%s: status %d", url, reply->status);
    }
    s->fresh = jwks_create();
    enum rc rc = jwks_add(s->fresh, text, &s->err);
    if (rc != RC_OK) {
        jwks_put(s->fresh);
        s->fresh = NULL;
        return err_context(&s->err, "%s", url);
    }
    crypto_sha256(text, s->fresh_hash);
    s->fresh_s = s->issuer.refresh_s;
    if (reply->has_max_age) {
        s->fresh_s = MIN(s->fresh_s, (uint64_t)reply->max_age_s);
    }
    s->fresh_s = MAX(s->fresh_s, (uint64_t)JWKS_FRESH_S_MIN);
    return RC_OK;
}

static void source_ask_on_worker(void *ctx)
{
    static const char *const headers[] = {"accept: application/json", NULL};
    struct jwks_source *s = ctx;
    const struct jwt_issuer *i = &s->issuer;
    struct fetch_conf conf = {.url = i->jwks_url.ptr,
                              .headers = headers,
                              .ca_file = i->ca_file.len > 0 ? i->ca_file.ptr : NULL,
                              .inside = true, /* an operator chose this URL */
                              .timeout_ms = (uint32_t)s->conf.timeout_ms,
                              .stop = &s->stop};
    struct fetch_reply reply;
    buf_init(&reply.body, JWKS_BYTES_MAX);
    s->err = (struct err){0};
    s->fresh = NULL;
    enum rc rc = fetch_run(&conf, &reply, &s->err);
    rc = rc == RC_OK ? source_read_answer(s, &reply) : rc;
    ASSERT(rc == s->err.code);
    buf_deinit(&reply.body);
}

/* ---- to other loops ---- */

static void *news_get(void *news)
{
    atomic_fetch_add_explicit(&((struct jwks_news *)news)->n_refs, 1, memory_order_relaxed);
    return news;
}

static void news_put(void *ctx)
{
    struct jwks_news *news = ctx;
    if (atomic_fetch_sub_explicit(&news->n_refs, 1, memory_order_acq_rel) == 1) {
        jwks_put(news->keys);
        mem_free(news);
    }
}

/* Whoever waits for it, here and on other loops. */
static void source_tell(struct jwks_source *s)
{
    if (!list_is_empty(&s->followers)) {
        struct jwks_news *news = mem_zalloc(sizeof(*news));
        atomic_init(&news->n_refs, 1);
        news->keys = s->keys != NULL ? jwks_get(s->keys) : NULL;
        news->version = s->version;
        news->asking = s->asking;
        news->ask_after_ms = s->asked_ms + s->conf.pause_ms;
        relay_send(&s->followers, news, news_get);
        news_put(news);
    }
    s->conf.on_done(s->conf.ctx);
}

/* ---- on the loop ---- */

static void source_take(struct jwks_source *s)
{
    s->answered_ms = loop_now_ms(s->loop);
    s->retry_ms = s->conf.retry_ms;
    loop_timer_start(&s->timer, s->fresh_s * 1000u);
    loop_timer_start(&s->old_timer, s->conf.stale_ms);
    if (s->keys != NULL && memcmp(s->hash, s->fresh_hash, sizeof(s->hash)) == 0) {
        jwks_put(s->fresh);
        s->fresh = NULL;
        return;
    }
    jwks_put(s->keys);
    s->keys = s->fresh;
    s->fresh = NULL;
    memcpy(s->hash, s->fresh_hash, sizeof(s->hash));
    s->version++;
    log_event(LOG_JWKS, log_str("issuer", s->issuer.name), log_u64("keys", jwks_size(s->keys)));
}

static void source_free(struct jwks_source *s)
{
    jwks_put(s->keys);
    jwks_put(s->fresh);
    arena_deinit(&s->arena);
    mem_free(s);
}

static void source_asked(void *ctx, enum rc rc)
{
    struct jwks_source *s = ctx;
    s->asking = false;
    if (s->destroyed) {
        source_free(s);
        return;
    }
    if (rc != RC_OK) {
        return; /* cancelled: the loop is ending */
    }
    bool ok = s->fresh != NULL;
    metric_add(metric_with1(METRIC_JWKS_FETCHES, ok ? STR_LIT("ok") : STR_LIT("failed")), 1);
    if (ok) {
        source_take(s);
    } else {
        log_event(LOG_JWKS_FAIL, log_str("issuer", s->issuer.name), log_err(&s->err),
                  log_err_code(&s->err));
        loop_timer_start(&s->timer, s->retry_ms);
        s->retry_ms = MIN(s->retry_ms * 2u, MAX((uint64_t)JWKS_RETRY_MS_MAX, s->conf.retry_ms));
    }
    source_tell(s);
}

static void source_ask(struct jwks_source *s)
{
    struct loop_job job = {
        .run = source_ask_on_worker, .done = source_asked, .ctx = s, .slow = true};
    s->asking = loop_work_start(NULL, s->loop, &job, NULL) == RC_OK;
    s->asked_ms = loop_now_ms(s->loop);
    if (s->asking) {
        loop_timer_stop(&s->timer);
    } else {
        loop_timer_start(&s->timer, s->retry_ms);
    }
}

static void source_on_timer(void *ctx)
{
    struct jwks_source *s = ctx;
    if (!s->asking) {
        source_ask(s);
    }
}

/* Nobody has confirmed these keys for too long. */
static void source_on_old(void *ctx)
{
    struct jwks_source *s = ctx;
    struct err err = {0};
    err_set(&err, RC_UNAVAILABLE, "its keys are too old to be believed");
    log_event(LOG_JWKS_FAIL, log_str("issuer", s->issuer.name), log_err(&err), log_err_code(&err));
    jwks_put(s->keys);
    s->keys = NULL;
    s->version++;
    source_tell(s);
}

/* Of one that follows. Which issuer the leader has never changes. */
static bool source_ask_leader(struct jwks_source *s)
{
    if (!s->asking && s->leader->issuer.jwks_url.len > 0 &&
        loop_now_ms(s->loop) >= s->ask_after_ms) {
        s->asking = true;
        loop_wake_send(s->leader->asked);
    }
    return s->asking;
}

bool jwks_source_refresh(struct jwks_source *s)
{
    if (s->leader != NULL) {
        return source_ask_leader(s);
    }
    if (s->asking || s->issuer.jwks_url.len == 0) {
        return s->asking;
    }
    if (s->asked_ms != 0 && loop_now_ms(s->loop) - s->asked_ms < s->conf.pause_ms) {
        return false;
    }
    source_ask(s);
    return s->asking;
}

bool jwks_source_is_asking(const struct jwks_source *s)
{
    return s->asking;
}

struct jwks *jwks_source_keys(const struct jwks_source *s)
{
    return s->keys;
}

uint32_t jwks_source_version(const struct jwks_source *s)
{
    return s->version;
}

/* A follower asked. */
static void source_on_asked(void *ctx)
{
    struct jwks_source *s = ctx;
    if (!jwks_source_refresh(s)) {
        source_tell(s);
    }
}

static void source_on_news(void *ctx, void *value)
{
    struct jwks_source *s = ctx;
    struct jwks_news *news = value;
    jwks_put(s->keys);
    s->keys = news->keys != NULL ? jwks_get(news->keys) : NULL;
    s->version = news->version;
    s->ask_after_ms = news->ask_after_ms;
    s->asking = news->asking;
    news_put(news);
    s->conf.on_done(s->conf.ctx);
}

/* ---- life ---- */

static enum rc source_read_files(struct jwks_source *s, struct err *err)
{
    const struct str *files = s->issuer.key_files.at;
    enum rc rc = RC_OK;
    s->keys = jwks_create();
    for (uint32_t i = 0; rc == RC_OK && i < s->issuer.key_files.n; i++) {
        struct buf text;
        buf_init(&text, JWKS_BYTES_MAX);
        rc = file_read(files[i].ptr, &text, err);
        if (rc == RC_OK && (rc = jwks_add(s->keys, buf_str(&text), err)) != RC_OK) {
            err_context(err, "%s", files[i].ptr);
        }
        buf_deinit(&text);
    }
    return rc;
}

enum rc jwks_source_create(struct jwks_source **out, struct loop *l,
                           const struct jwks_source_conf *conf, struct err *err)
{
    struct jwks_source *s = mem_zalloc(sizeof(*s));
    *out = NULL;
    s->loop = l;
    s->conf = *conf;
    list_init(&s->followers);
    arena_init(&s->arena, JWT_ARENA_BYTES_MAX);
    s->conf.pause_ms = conf->pause_ms != 0 ? conf->pause_ms : JWKS_PAUSE_MS;
    s->conf.timeout_ms = conf->timeout_ms != 0 ? conf->timeout_ms : JWKS_TIMEOUT_MS;
    s->conf.retry_ms = conf->retry_ms != 0 ? conf->retry_ms : JWKS_RETRY_MS;
    s->conf.stale_ms = conf->stale_ms != 0 ? conf->stale_ms : JWKS_STALE_S * 1000u;
    s->retry_ms = s->conf.retry_ms;
    atomic_init(&s->stop, false);
    loop_timer_init(&s->timer, l, source_on_timer, s);
    loop_timer_init(&s->old_timer, l, source_on_old, s);
    enum rc rc = RC_OK;
    if (!jwt_issuer_copy(&s->issuer, conf->issuer, &s->arena)) {
        rc = err_set(err, RC_NOMEM, "out of memory for an issuer of tokens");
    } else if (conf->issuer->jwks_url.len == 0) {
        rc = source_read_files(s, err);
    } else {
        source_ask(s);
    }
    if (rc != RC_OK) {
        source_free(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

enum rc jwks_source_follow(struct jwks_source **out, struct loop *l, struct jwks_source *leader,
                           const struct jwks_source_conf *conf, struct err *err)
{
    struct jwks_source *s = mem_zalloc(sizeof(*s));
    const struct relay_conf relay = {.to = l,
                                     .readers = &leader->followers,
                                     .on_value = source_on_news,
                                     .ctx = s,
                                     .put = news_put};
    enum rc rc = RC_OK;
    *out = NULL;
    ASSERT(leader->leader == NULL);
    s->loop = l;
    s->leader = leader;
    s->conf = *conf;
    s->keys = leader->keys != NULL ? jwks_get(leader->keys) : NULL;
    s->version = leader->version;
    s->asking = leader->asking;
    list_init(&s->followers);
    if (leader->asked == NULL) {
        rc = loop_wake_create(&leader->asked, leader->loop, source_on_asked, leader, err);
    }
    rc = rc == RC_OK ? relay_create(&s->news, &relay, err) : rc;
    if (rc != RC_OK) {
        source_free(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

void jwks_source_destroy(struct jwks_source *s)
{
    if (s == NULL) {
        return;
    }
    if (s->leader != NULL) {
        relay_destroy(s->news);
        source_free(s);
        return;
    }
    ASSERT(list_is_empty(&s->followers));
    loop_wake_destroy(s->asked);
    s->asked = NULL;
    loop_timer_stop(&s->timer);
    loop_timer_stop(&s->old_timer);
    atomic_store(&s->stop, true);
    s->destroyed = true;
    if (!s->asking) {
        source_free(s);
    }
}
