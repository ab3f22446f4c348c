/* rig.h: a front door on its own thread, before a model server that misbehaves on purpose. */
#ifndef TESTS_GATEWAY_RIG_H
#define TESTS_GATEWAY_RIG_H

#include "10_module/gateway/fake.h"

#include "auth/jwt_verifier.h"
#include "gateway/group.h"
#include "net/loop.h"

#define COMPLETE "POST /v1/completions"

/* Retries take 200 ms: less than the silence that sends a stream's head. */
enum { WAIT_ROUNDS = 5000, PING_MS = 700 };

/* ---- the rig ---- */

struct rig {
    struct fake fake;
    struct loop *loop;
    struct catalog *catalog;
    struct gw_shared_conf shared_conf; /* set before rig_open_more */
    uint32_t n_loops;                  /* 0 = 1 */
    struct gateway_group *group;
    struct gateway *gateway; /* the first loop's */
    struct addr addr;
    struct thread thread;
    const char *limits, *scopes, *project; /* of the key; set before rig_open_more */
    const char *role, *user;               /* role NULL = owner */
    const char *store;                     /* a file; NULL = in memory */
    const struct meta_object *objects;     /* of the catalogue */
    uint32_t n_objects;
    const char *redis_url; /* where answers are kept; set before rig_open_more; NULL = in memory */
    uint64_t redis_command_ms; /* 0 = as long as a busy machine may need */
    struct redis *redis;
    const struct conf_list *issuers; /* of tokens; set before rig_open_more; NULL = none */
    struct jwt_verifier *jwt;
    char key[KEY_TEXT_BYTES], key_id[META_KEY_ID_BYTES];
    char auth[128]; /* a header line */
    struct str model;
    atomic_bool drained;
    atomic_int n_waiting; /* in line for a server, when last looked */
};

static inline void rig_run(void *arg)
{
    loop_run(((struct rig *)arg)->loop);
}

static inline void rig_do_ready(void *ctx)
{
    gateway_group_set_ready(((struct rig *)ctx)->group, true);
}

static inline void rig_do_away(void *ctx)
{
    gateway_group_set_ready(((struct rig *)ctx)->group, false);
}

static inline void rig_ready(struct rig *r, bool ready)
{
    assert_int_equal(loop_post(r->loop, ready ? rig_do_ready : rig_do_away, r), RC_OK);
}

static inline void rig_open_keys(struct rig *r)
{
    struct meta *meta;
    struct meta_key row;
    struct secret pepper = {0};
    struct key_options opt = {.name = "test",
                              .role = r->role != NULL ? r->role : "owner",
                              .created_s = 1,
                              .limits = r->limits,
                              .scopes = r->scopes,
                              .project = r->project,
                              .user = r->user};
    struct err err = {0};
    assert_true(secret_set(&pepper, STR_LIT("0123456789abcdef0123456789abcdef")));
    assert_int_equal(meta_open(&meta, r->store != NULL ? r->store : ":memory:", NULL), RC_OK);
    key_make(&pepper, &opt, r->key, &row);
    str_copy(r->key_id, sizeof(r->key_id), str_from(row.id));
    assert_int_equal(meta_key_insert(meta, &row, NULL), RC_OK);
    assert_int_equal(meta_objects_replace(meta, "test", r->objects, r->n_objects, &err), RC_OK);
    struct catalog_conf conf = {
        .pepper = &pepper, .local = {.addr = r->fake.addr, .models = &r->model, .n_models = 1}};
    assert_int_equal(catalog_create(&r->catalog, r->loop, meta, &conf, &err), RC_OK);
    snprintf(r->auth, sizeof(r->auth), "authorization: Bearer %s\r\n", r->key);
}

/* What was set in r before stays. */
static inline void rig_open_more(struct rig *r, struct gateway_conf conf)
{
    struct err err = {0};
    fake_open(&r->fake);
    r->model = STR_LIT("m");
    conf.ping_ms = conf.ping_ms != 0 ? conf.ping_ms : PING_MS;
    assert_int_equal(addr_parse(&conf.listen, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    rig_open_keys(r);
    if (r->issuers != NULL) {
        struct jwt_verifier_conf jwt = {.issuers = r->issuers};
        assert_int_equal(jwt_verifier_create(&r->jwt, r->loop, &jwt, &err), RC_OK);
        conf.jwt = r->jwt;
    }
    if (r->redis_url != NULL) {
        const struct redis_conf redis = {
            .url = str_from(r->redis_url),
            .command_ms = r->redis_command_ms != 0 ? r->redis_command_ms : 30000};
        assert_int_equal(redis_create(&r->redis, r->loop, &redis, &err), RC_OK);
        r->shared_conf.answers.secret = STR_LIT("of the store");
    }
    const struct gateway_group_conf group = {.gateway = conf,
                                             .shared = r->shared_conf,
                                             .answers = r->redis,
                                             .n_loops = MAX(r->n_loops, 1u)};
    assert_int_equal(gateway_group_create(&r->group, r->loop, &group, r->catalog, &r->addr, &err),
                     RC_OK);
    r->gateway = gateway_group_first(r->group);
    gateway_group_set_ready(r->group, true);
    assert_int_equal(gateway_group_start(r->group, &err), RC_OK);
    assert_int_equal(thread_start(&r->thread, "gateway", -1, rig_run, r), RC_OK);
}

static inline void rig_open(struct rig *r, struct gateway_conf conf)
{
    memset(r, 0, sizeof(*r));
    rig_open_more(r, conf);
}

/* Its front door is gone, as if it had died; rig_close follows. */
static inline void rig_die(struct rig *r)
{
    loop_stop(r->loop);
    thread_join(&r->thread);
    gateway_group_destroy(r->group);
    r->group = NULL;
}

static inline void rig_close(struct rig *r)
{
    if (r->group != NULL) {
        rig_die(r);
    }
    redis_destroy(r->redis);
    jwt_verifier_destroy(r->jwt);
    catalog_destroy(r->catalog);
    loop_destroy(r->loop);
    fake_close(&r->fake);
}

static inline int rig_send(struct rig *r, const char *script, bool stream)
{
    char body[256];
    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"%s\",\"stream\":%s}",
             script, stream ? "true" : "false");
    return ask_send(&r->addr, COMPLETE, r->auth, str_from(body));
}

static inline void rig_ask(struct rig *r, const char *script, bool stream, struct answer *a)
{
    atomic_store(&r->fake.n_requests, 0);
    atomic_store(&r->fake.saw_end, false);
    rig_ready(r, false); /* drops kept connections: a stale one is tried again by itself */
    rig_ready(r, true);
    ask_read(rig_send(r, script, stream), a);
}

/* Until `count` is n; fails when that takes too long. */
static inline void wait_for(atomic_int *count, int n)
{
    for (int i = 0; atomic_load(count) < n; i++) {
        assert_true(i < WAIT_ROUNDS);
        usleep(1000);
    }
}

static inline bool answer_is_error(struct answer *a, const char *code)
{
    return a->json != NULL && str_is(answer_at(a->json, "error.code")->text, code);
}

#endif
