/* group.c: see group.h.
 *
 * Invariants
 * 1. A member's gateway is touched by its loop's thread alone while that runs; what is asked of it
 *    from loop 0 stands in atomics of the group, and a wake-up makes it look there.
 * 2. n_ready counts the changes; its low bit says what holds. A member goes through each change. */
#include "gateway/group.h"

#include <stdio.h>

#include "auth/jwt_verifier.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/thread.h"
#include "gateway/answer_mirror.h"
#include "net/listen.h"
#include "net/tls_keep.h"

struct group_member {
    struct gateway_group *group;
    struct loop *loop; /* the first one's is borrowed */
    struct gateway *gateway;
    struct tls_keep *tls;     /* NULL: plain, or of the first loop */
    struct jwt_verifier *jwt; /* NULL likewise */
    struct loop_wake *wake;   /* NULL: of the first loop */
    struct thread thread;
    uint64_t n_ready; /* changes it has gone through */
    bool draining;
};

struct gateway_group {
    struct group_member *members;
    uint32_t n_members;
    struct gw_shared *shared;
    struct lease_keeper *leases;   /* NULL: limits are counted here alone */
    struct answer_mirror *answers; /* NULL: kept here alone */
    struct listen_group *address;  /* NULL: one loop */
    _Atomic uint64_t n_ready;
    atomic_bool draining;
    uint64_t drain_ms; /* written before `draining` */
    _Atomic uint32_t n_undrained;
    struct loop_wake *drained; /* to the first loop */
    void (*on_drained)(void *ctx);
    void *ctx;
};

/* ---- on a member's loop ---- */

static void member_drained(void *ctx)
{
    struct gateway_group *g = ((struct group_member *)ctx)->group;
    if (atomic_fetch_sub(&g->n_undrained, 1) == 1) {
        loop_wake_send(g->drained);
    }
}

static void member_look(void *ctx)
{
    struct group_member *m = ctx;
    uint64_t n_ready = atomic_load(&m->group->n_ready);
    while (m->n_ready < n_ready) {
        m->n_ready++;
        gateway_set_ready(m->gateway, m->n_ready % 2 == 1);
    }
    if (!m->draining && atomic_load(&m->group->draining)) {
        m->draining = true;
        gateway_drain(m->gateway, m->group->drain_ms, member_drained, m);
    }
}

static void member_run(void *ctx)
{
    loop_run(((struct group_member *)ctx)->loop);
}

/* ---- on loop 0 ---- */

static void group_wake(struct gateway_group *g)
{
    member_look(&g->members[0]);
    for (uint32_t i = 1; i < g->n_members; i++) {
        loop_wake_send(g->members[i].wake);
    }
}

/* Answers are told, then leases are given back, then the caller hears of it. */
static void group_on_told(void *ctx)
{
    struct gateway_group *g = ctx;
    void (*on_drained)(void *) = g->on_drained;
    g->on_drained = NULL;
    if (on_drained != NULL && g->leases != NULL) {
        lease_keeper_leave(g->leases, on_drained, g->ctx);
    } else if (on_drained != NULL) {
        on_drained(g->ctx);
    }
}

static void group_on_drained(void *ctx)
{
    struct gateway_group *g = ctx;
    if (g->answers != NULL && g->on_drained != NULL) {
        answer_mirror_leave(g->answers, group_on_told, g);
    } else {
        group_on_told(g);
    }
}

struct gateway *gateway_group_first(const struct gateway_group *g)
{
    return g->members[0].gateway;
}

void gateway_group_set_ready(struct gateway_group *g, bool ready)
{
    if ((atomic_load(&g->n_ready) % 2 == 1) != ready) {
        atomic_fetch_add(&g->n_ready, 1);
        group_wake(g);
    }
}

void gateway_group_drain(struct gateway_group *g, uint64_t max_ms, void (*on_drained)(void *ctx),
                         void *ctx)
{
    ASSERT(!atomic_load(&g->draining));
    g->on_drained = on_drained;
    g->ctx = ctx;
    g->drain_ms = max_ms;
    atomic_store(&g->n_undrained, g->n_members);
    atomic_store(&g->draining, true);
    group_wake(g);
}

/* ---- life ---- */

/* A loop of its own, and what follows that of the first. */
static enum rc member_follow(struct group_member *m, const struct clock *clock,
                             struct gateway_conf *conf, struct err *err)
{
    enum rc rc = loop_create(&m->loop, clock, err);
    rc = rc == RC_OK ? loop_wake_create(&m->wake, m->loop, member_look, m, err) : rc;
    if (rc == RC_OK && conf->tls != NULL) {
        rc = tls_keep_follow(&m->tls, m->loop, conf->tls, err);
    }
    if (rc == RC_OK && conf->jwt != NULL) {
        rc = jwt_verifier_follow(&m->jwt, m->loop, conf->jwt, err);
    }
    conf->tls = m->tls;
    conf->jwt = m->jwt;
    return rc;
}

static enum rc group_add(struct gateway_group *g, struct loop *first,
                         const struct gateway_group_conf *conf, struct catalog *catalog,
                         struct addr *bound, struct err *err)
{
    struct group_member *m = &g->members[g->n_members++];
    struct gateway_conf gateway = conf->gateway;
    bool is_first = g->n_members == 1;
    enum rc rc = RC_OK;
    m->group = g;
    m->loop = first;
    if (!is_first) {
        m->loop = NULL;
        rc = member_follow(m, loop_clock(first), &gateway, err);
    }
    gateway.n_loops = conf->n_loops;
    gateway.shared = g->shared;
    gateway.leases = g->leases;
    gateway.address = g->address;
    return rc == RC_OK ? gateway_create(&m->gateway, m->loop, &gateway, catalog,
                                        is_first ? bound : NULL, err)
                       : rc;
}

enum rc gateway_group_create(struct gateway_group **out, struct loop *first,
                             const struct gateway_group_conf *conf, struct catalog *catalog,
                             struct addr *bound, struct err *err)
{
    struct gateway_group *g = mem_zalloc(sizeof(*g));
    *out = NULL;
    ASSERT(conf->n_loops > 0 && conf->n_loops <= GATEWAY_LOOPS_MAX);
    g->members = mem_zalloc_array(conf->n_loops, sizeof(*g->members));
    gw_shared_create(&g->shared, &conf->shared);
    if (conf->n_loops > 1) {
        uint32_t conns_max = conf->gateway.conns_max;
        listen_group_create(&g->address, conns_max != 0 ? conns_max : HTTP_SERVER_CONNS_MAX);
    }
    enum rc rc = loop_wake_create(&g->drained, first, group_on_drained, g, err);
    if (rc == RC_OK && conf->leases.redis != NULL) {
        struct lease_conf leases = conf->leases;
        leases.limiter = g->shared->limiter;
        rc = lease_keeper_create(&g->leases, first, &leases, err);
    }
    if (rc == RC_OK && conf->answers != NULL) {
        rc = answer_mirror_create(&g->answers, g->shared->answers, first, conf->answers, err);
    }
    for (uint32_t i = 0; rc == RC_OK && i < conf->n_loops; i++) {
        rc = group_add(g, first, conf, catalog, bound, err);
    }
    if (rc != RC_OK) {
        gateway_group_destroy(g);
        return rc;
    }
    *out = g;
    return RC_OK;
}

enum rc gateway_group_start(struct gateway_group *g, struct err *err)
{
    for (uint32_t i = 1; i < g->n_members; i++) {
        struct group_member *m = &g->members[i];
        char name[24];
        snprintf(name, sizeof(name), "gateway-%u", i);
        if (thread_start(&m->thread, name, -1, member_run, m) != RC_OK) {
            return err_set(err, RC_NOMEM, "cannot start the thread of loop %u", i);
        }
    }
    return RC_OK;
}

static void member_end(struct group_member *m, bool first)
{
    gateway_destroy(m->gateway);
    jwt_verifier_destroy(m->jwt);
    tls_keep_destroy(m->tls);
    loop_wake_destroy(m->wake);
    if (!first) {
        loop_destroy(m->loop);
    }
}

void gateway_group_destroy(struct gateway_group *g)
{
    if (g == NULL) {
        return;
    }
    for (uint32_t i = 1; i < g->n_members; i++) {
        if (g->members[i].loop != NULL) {
            loop_stop(g->members[i].loop);
        }
        thread_join(&g->members[i].thread);
    }
    for (uint32_t i = g->n_members; i-- > 0;) {
        member_end(&g->members[i], i == 0);
    }
    lease_keeper_destroy(g->leases);
    answer_mirror_destroy(g->answers);
    loop_wake_destroy(g->drained);
    listen_group_put(g->address);
    gw_shared_put(g->shared);
    mem_free(g->members);
    mem_free(g);
}
