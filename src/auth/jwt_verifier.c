/* jwt_verifier.c: see jwt_verifier.h.
 *
 * State of a check: on a worker (running) → parked, until its issuer's keys have been fetched → on
 * a worker again → gone. While it runs, the worker owns the arena and the result fields.
 *
 * Invariants
 * 1. A token is checked once at a time: requests with the same one wait for the same check.
 * 2. What is cached was proved by the keys in force: an entry of an older version counts as none.
 */
#include "auth/jwt_verifier.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/map.h"
#include "base/mem.h"
#include "obs/metric.h"

enum { JWT_NO_ISSUER = JWT_ISSUERS_MAX };

struct jwt_entry {
    struct list_node node; /* in verifier.recent */
    unsigned char hash[CRYPTO_SHA256_BYTES];
    uint32_t issuer, version;
    struct jwt_identity id; /* its strings lie in the arena */
    struct arena arena;
};

struct jwt_check {
    struct jwt_verifier *verifier;
    struct list_node node; /* in verifier.parked, or of no list */
    unsigned char hash[CRYPTO_SHA256_BYTES];
    struct list waits;
    bool again; /* its issuer's keys were fetched for it already */
    struct jwks *keys[JWT_ISSUERS_MAX];
    uint32_t versions[JWT_ISSUERS_MAX];
    int64_t now_s;
    struct str token;
    /* the worker's while it runs */
    struct arena arena;
    uint32_t issuer; /* JWT_NO_ISSUER: none of ours */
    enum jwt_refusal refusal;
    struct jwt_identity id;
};

struct jwt_verifier {
    struct loop *loop;
    struct arena arena; /* of the issuers */
    struct jwt_issuer issuers[JWT_ISSUERS_MAX];
    struct jwks_source *sources[JWT_ISSUERS_MAX];
    uint32_t n_issuers;
    struct crypto_hmac hmac;  /* under a key of this process's own */
    struct map cache, checks; /* by hash */
    struct list recent;       /* entries, the longest unused first */
    struct list parked;       /* checks that wait for keys */
    uint32_t n_parked, n_running;
    struct metric_series *n_cached;
    bool destroyed;
};

static struct str hash_str_of(const unsigned char hash[CRYPTO_SHA256_BYTES])
{
    return str_make((const char *)hash, CRYPTO_SHA256_BYTES);
}

static int64_t verifier_now(const struct jwt_verifier *v)
{
    return clock_wall_s(loop_clock(v->loop));
}

/* ---- cache ---- */

static void entry_remove(struct jwt_verifier *v, struct jwt_entry *e)
{
    map_remove(&v->cache, hash_str_of(e->hash));
    list_remove(&e->node);
    arena_deinit(&e->arena);
    mem_free(e);
}

static bool entry_copy(struct jwt_entry *e, const struct jwt_identity *id)
{
    struct principal *who = &e->id.who;
    struct str *const texts[] = {&who->id,   &who->organisation, &who->project,
                                 &who->user, &who->roles,        &who->scopes};
    e->id = *id;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *texts[i] = arena_str(&e->arena, *texts[i]);
        if (texts[i]->ptr == NULL) {
            return false;
        }
    }
    return true;
}

/* Out of memory: it is checked again when it comes again. */
static void cache_put(struct jwt_verifier *v, const struct jwt_check *c)
{
    if (c->versions[c->issuer] != jwks_source_version(v->sources[c->issuer])) {
        return;
    }
    while (map_count(&v->cache) >= JWT_CACHE_MAX) {
        entry_remove(v, LIST_ENTRY(list_first(&v->recent), struct jwt_entry, node));
    }
    struct jwt_entry *e = mem_try_zalloc(sizeof(*e));
    if (e == NULL) {
        return;
    }
    memcpy(e->hash, c->hash, sizeof(e->hash));
    e->issuer = c->issuer;
    e->version = c->versions[c->issuer];
    arena_init(&e->arena, JWT_ARENA_BYTES_MAX);
    if (!entry_copy(e, &c->id) || !map_put(&v->cache, hash_str_of(e->hash), e, NULL)) {
        arena_deinit(&e->arena);
        mem_free(e);
        return;
    }
    list_push_back(&v->recent, &e->node);
}

const struct jwt_identity *jwt_verifier_known(struct jwt_verifier *v, struct str token)
{
    unsigned char hash[CRYPTO_SHA256_BYTES];
    if (token.len > JWT_BYTES_MAX) {
        return NULL;
    }
    crypto_hmac_run(&v->hmac, token, hash);
    struct jwt_entry *e = map_get(&v->cache, hash_str_of(hash));
    if (e == NULL) {
        return NULL;
    }
    if (e->version != jwks_source_version(v->sources[e->issuer]) ||
        verifier_now(v) >= e->id.until_s) {
        entry_remove(v, e);
        return NULL;
    }
    list_remove(&e->node);
    list_push_back(&v->recent, &e->node);
    metric_add(v->n_cached, 1);
    return &e->id;
}

/* ---- checks: on a worker ---- */

static void check_run(void *ctx)
{
    struct jwt_check *c = ctx;
    const struct jwt_verifier *v = c->verifier;
    struct jwt t;
    c->issuer = JWT_NO_ISSUER;
    c->refusal = jwt_parse(&t, c->token, &c->arena);
    if (c->refusal != JWT_OK) {
        return;
    }
    for (uint32_t i = 0; i < v->n_issuers; i++) {
        c->issuer = str_eq(v->issuers[i].issuer, t.issuer) ? i : c->issuer;
    }
    if (c->issuer == JWT_NO_ISSUER) {
        c->refusal = JWT_ISSUER;
        return;
    }
    const struct jwt_issuer *issuer = &v->issuers[c->issuer];
    const struct jwks *keys = c->keys[c->issuer];
    c->refusal = keys != NULL ? jwt_verify(&t, issuer, keys) : JWT_NO_KEYS;
    if (c->refusal == JWT_OK) {
        c->refusal = jwt_claims(&t, issuer, c->now_s, &c->arena, &c->id);
    }
}

/* ---- checks: on the loop ---- */

static void verifier_free(struct jwt_verifier *v)
{
    ASSERT(v->n_running == 0 && v->n_parked == 0);
    LIST_EACH(&v->recent, n)
    {
        entry_remove(v, LIST_ENTRY(n, struct jwt_entry, node));
    }
    map_deinit(&v->cache);
    map_deinit(&v->checks);
    crypto_hmac_wipe(&v->hmac);
    arena_deinit(&v->arena);
    mem_free(v);
}

static void check_put_keys(struct jwt_check *c)
{
    for (uint32_t i = 0; i < JWT_ISSUERS_MAX; i++) {
        jwks_put(c->keys[i]);
        c->keys[i] = NULL;
    }
}

static void check_free(struct jwt_check *c)
{
    check_put_keys(c);
    arena_deinit(&c->arena);
    mem_free(c);
}

/* Tells everybody who waits; they may cancel others of the same check meanwhile. */
static void check_end(struct jwt_check *c)
{
    struct jwt_verifier *v = c->verifier;
    struct list_node *n;
    bool ok = c->refusal == JWT_OK;
    const char *label = ok ? "verified" : jwt_refusal_label(c->refusal);
    map_remove(&v->checks, hash_str_of(c->hash));
    metric_add(metric_with1(METRIC_JWT_TOKENS, str_from(label)), 1);
    if (ok) {
        cache_put(v, c);
    }
    while ((n = list_pop_front(&c->waits)) != NULL) {
        struct jwt_wait *w = LIST_ENTRY(n, struct jwt_wait, node);
        w->check = NULL;
        w->cb(w->ctx, ok ? &c->id : NULL, c->refusal);
    }
    check_free(c);
}

/* Whether newer keys may tell more; then the check is parked until they have come. */
static bool check_park(struct jwt_check *c)
{
    struct jwt_verifier *v = c->verifier;
    bool keys = c->refusal == JWT_KEY || c->refusal == JWT_NO_KEYS;
    if (!keys || c->again || c->issuer == JWT_NO_ISSUER || list_is_empty(&c->waits) ||
        v->n_parked >= JWT_PARKED_MAX) {
        return false;
    }
    struct jwks_source *source = v->sources[c->issuer];
    c->again = true;
    if (jwks_source_version(source) == c->versions[c->issuer] && !jwks_source_refresh(source)) {
        return false;
    }
    list_push_back(&v->parked, &c->node);
    v->n_parked++;
    return true;
}

static bool check_start(struct jwt_check *c);

static void check_unpark(struct jwt_check *c)
{
    list_remove(&c->node);
    c->verifier->n_parked--;
    if (!check_start(c)) {
        c->refusal = JWT_NO_KEYS;
        check_end(c);
    }
}

static void check_done(void *ctx, enum rc rc)
{
    struct jwt_check *c = ctx;
    struct jwt_verifier *v = c->verifier;
    v->n_running--;
    check_put_keys(c);
    if (v->destroyed) {
        ASSERT(list_is_empty(&c->waits));
        check_free(c);
        if (v->n_running == 0) {
            verifier_free(v);
        }
        return;
    }
    if (rc != RC_OK) {
        c->refusal = JWT_NO_KEYS; /* it never ran: the loop is ending */
        c->again = true;
    }
    if (!check_park(c)) {
        check_end(c);
    } else if (!jwks_source_is_asking(v->sources[c->issuer])) {
        check_unpark(c); /* other keys came while it ran */
    }
}

/* False: the workers have too much to do. */
static bool check_start(struct jwt_check *c)
{
    struct jwt_verifier *v = c->verifier;
    struct loop_job job = {.run = check_run, .done = check_done, .ctx = c};
    c->now_s = verifier_now(v);
    for (uint32_t i = 0; i < v->n_issuers; i++) {
        struct jwks *keys = jwks_source_keys(v->sources[i]);
        c->keys[i] = keys != NULL ? jwks_get(keys) : NULL;
        c->versions[i] = jwks_source_version(v->sources[i]);
    }
    /* From here on it is the worker's. */
    if (loop_work_start(NULL, v->loop, &job, NULL) != RC_OK) {
        check_put_keys(c);
        return false;
    }
    v->n_running++;
    return true;
}

static void verifier_on_keys(void *ctx)
{
    struct jwt_verifier *v = ctx;
    LIST_EACH(&v->parked, n)
    {
        struct jwt_check *c = LIST_ENTRY(n, struct jwt_check, node);
        if (!jwks_source_is_asking(v->sources[c->issuer])) {
            check_unpark(c);
        }
    }
}

static struct jwt_check *check_create(struct jwt_verifier *v, struct str token,
                                      const unsigned char hash[CRYPTO_SHA256_BYTES])
{
    struct jwt_check *c = mem_try_zalloc(sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->verifier = v;
    memcpy(c->hash, hash, sizeof(c->hash));
    list_init(&c->waits);
    arena_init(&c->arena, JWT_ARENA_BYTES_MAX);
    /* One that is too long is not kept: its length alone is what is to be told. */
    c->token = arena_str(&c->arena, str_slice(token, 0, JWT_BYTES_MAX + 1));
    if (c->token.ptr == NULL || !map_put(&v->checks, hash_str_of(c->hash), c, NULL)) {
        check_free(c);
        return NULL;
    }
    return c;
}

enum rc jwt_verifier_check(struct jwt_verifier *v, struct str token, struct jwt_wait *w, jwt_cb cb,
                           void *ctx, struct err *err)
{
    unsigned char hash[CRYPTO_SHA256_BYTES];
    crypto_hmac_run(&v->hmac, str_slice(token, 0, JWT_BYTES_MAX + 1), hash);
    struct jwt_check *c = map_get(&v->checks, hash_str_of(hash));
    if (c == NULL) {
        if (map_count(&v->checks) >= JWT_CHECKS_MAX) {
            return err_set(err, RC_OVERLOADED, "Too many tokens are being checked.");
        }
        c = check_create(v, token, hash);
        if (c == NULL) {
            return err_set(err, RC_NOMEM, "Out of memory for a token.");
        }
        if (!check_start(c)) {
            map_remove(&v->checks, hash_str_of(hash));
            check_free(c);
            return err_set(err, RC_OVERLOADED, "Too many tokens are being checked.");
        }
    }
    *w = (struct jwt_wait){.check = c, .cb = cb, .ctx = ctx};
    list_push_back(&c->waits, &w->node);
    return RC_OK;
}

void jwt_verifier_cancel(struct jwt_wait *w)
{
    if (w->check != NULL) {
        list_remove(&w->node);
        w->check = NULL; /* what it finds out is good for others */
    }
}

/* ---- life ---- */

static struct jwt_verifier *verifier_make(struct loop *l)
{
    struct jwt_verifier *v = mem_zalloc(sizeof(*v));
    unsigned char key[CRYPTO_KEY_BYTES];
    uint64_t seed;
    v->loop = l;
    v->n_cached = metric_with1(METRIC_JWT_TOKENS, STR_LIT("cached"));
    crypto_random(key, sizeof(key));
    crypto_hmac_init(&v->hmac, str_make((const char *)key, sizeof(key)));
    mem_wipe(key, sizeof(key));
    crypto_random(&seed, sizeof(seed));
    map_init(&v->cache, seed);
    map_init(&v->checks, seed);
    list_init(&v->recent);
    list_init(&v->parked);
    arena_init(&v->arena, JWT_ISSUERS_MAX * JWT_ARENA_BYTES_MAX);
    return v;
}

static enum rc verifier_add(struct jwt_verifier *v, const struct jwt_issuer *issuer,
                            const struct jwks_source_conf *conf, struct jwks_source *leader,
                            struct err *err)
{
    uint32_t i = v->n_issuers++;
    struct jwks_source_conf source = *conf;
    source.issuer = &v->issuers[i];
    source.on_done = verifier_on_keys;
    source.ctx = v;
    if (!jwt_issuer_copy(&v->issuers[i], issuer, &v->arena)) {
        return err_set(err, RC_NOMEM, "out of memory for an issuer of tokens");
    }
    return leader != NULL ? jwks_source_follow(&v->sources[i], v->loop, leader, &source, err)
                          : jwks_source_create(&v->sources[i], v->loop, &source, err);
}

static enum rc verifier_made(struct jwt_verifier **out, struct jwt_verifier *v, enum rc rc)
{
    if (rc != RC_OK) {
        jwt_verifier_destroy(v);
        v = NULL;
    }
    *out = v;
    return rc;
}

enum rc jwt_verifier_create(struct jwt_verifier **out, struct loop *l,
                            const struct jwt_verifier_conf *conf, struct err *err)
{
    const struct jwt_issuer *issuers = conf->issuers->at;
    enum rc rc = RC_OK;
    *out = NULL;
    if (conf->issuers->n > JWT_ISSUERS_MAX) {
        return err_set(err, RC_TOO_LARGE, "more than %d issuers of tokens", JWT_ISSUERS_MAX);
    }
    struct jwt_verifier *v = verifier_make(l);
    for (uint32_t i = 0; rc == RC_OK && i < conf->issuers->n; i++) {
        rc = verifier_add(v, &issuers[i], &conf->source, NULL, err);
    }
    return verifier_made(out, v, rc);
}

enum rc jwt_verifier_follow(struct jwt_verifier **out, struct loop *l, struct jwt_verifier *leader,
                            struct err *err)
{
    static const struct jwks_source_conf none;
    struct jwt_verifier *v = verifier_make(l);
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < leader->n_issuers; i++) {
        rc = verifier_add(v, &leader->issuers[i], &none, leader->sources[i], err);
    }
    return verifier_made(out, v, rc);
}

void jwt_verifier_destroy(struct jwt_verifier *v)
{
    uint32_t at = 0;
    void *check = NULL;
    if (v == NULL) {
        return;
    }
    while (map_next(&v->checks, &at, NULL, &check)) {
        LIST_EACH(&((struct jwt_check *)check)->waits, n)
        {
            jwt_verifier_cancel(LIST_ENTRY(n, struct jwt_wait, node));
        }
    }
    LIST_EACH(&v->parked, n)
    {
        struct jwt_check *c = LIST_ENTRY(n, struct jwt_check, node);
        list_remove(&c->node);
        v->n_parked--;
        check_free(c);
    }
    for (uint32_t i = 0; i < v->n_issuers; i++) {
        jwks_source_destroy(v->sources[i]);
    }
    v->destroyed = true;
    if (v->n_running == 0) {
        verifier_free(v);
    }
}
